/* Prints a line every `printer_period` ticks. */
#include "user.h"

static char *put_text(char *to, const char *text)
{
	while (*text)
		*to++ = *text++;
	return to;
}

static char *put_number(char *to, u64 value)
{
	char digits[20];
	int count = 0;
	do
		digits[count++] = (char)('0' + value % 10);
	while (value /= 10);
	while (count)
		*to++ = digits[--count];
	return to;
}

void printer(void)
{
	for (u64 line = 1;; line++) {
		char text[80], *end = put_number(put_text(text, "line "), line);
		end = put_number(put_text(end, " at tick "), (u64)system_call(SYS_TICKS, 0, 0, 0));
		end = put_text(end, "\r\n");
		system_call(SYS_WRITE, (u64)text, (u64)(end - text), 0);
		ON_BOARD(printer_lines) = line;
		sleep(ON_BOARD(printer_period));
	}
}
