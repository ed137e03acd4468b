/* What the kernel has to say: a ring of lines in memory, port 0xe9, the serial line, and panic.
 * It never prints for a process of its own accord. */
#include "kernel.h"

#define LINES 64
#define DEBUG_PORT 0xe9
#define SERIAL 0x3f8
#define FIFO 16
#define THR_EMPTY 0x20

struct boot_options boot_options = { .tick_ns = 4000000, .quantum = 2, .processes = 0xf };

struct log_line log_lines[LINES];
u64 log_count;
char panic_reason[80];

static char *put_number(char *to, char *end, u64 value, u64 base)
{
	char digits[20];
	u64 count = 0;
	do {
		digits[count++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (count && to < end)
		*to++ = digits[--count];
	return to;
}

/* Knows %s, %lu and %lx. */
static u64 print(char *text, u64 most, const char *format, va_list values)
{
	char *to = text, *end = text + most - 1;
	for (char c; (c = *format) && to < end; format++) {
		if (c != '%') {
			*to++ = c;
			continue;
		}
		format += format[1] == 'l' ? 2 : 1;
		if (*format == 's') {
			for (const char *from = va_arg(values, const char *); *from && to < end;)
				*to++ = *from++;
		} else {
			to = put_number(to, end, va_arg(values, u64), *format == 'u' ? 10 : 16);
		}
	}
	*to = 0;
	return (u64)(to - text);
}

static void log_values(const char *format, va_list values)
{
	struct log_line *line = &log_lines[log_count % LINES];
	line->sequence = ++log_count;
	line->tick = ticks;
	u64 length = print(line->text, sizeof line->text, format, values);
	if (boot_options.quiet)
		return;
	outs(DEBUG_PORT, line->text, length);
	outb(DEBUG_PORT, '\n');
}

void log(const char *format, ...)
{
	va_list values;
	va_start(values, format);
	log_values(format, values);
	va_end(values);
}

/* The kernel itself has gone wrong: says so, and stops for good. */
void panic(const char *format, ...)
{
	va_list values;
	va_start(values, format);
	u64 length = print(panic_reason, sizeof panic_reason, format, values);
	va_end(values);
	log("panic: %s", panic_reason);
	serial_write("\r\npanic: ", 9);
	serial_write(panic_reason, length);
	serial_write("\r\n", 2);
	for (;;)
		__asm__ volatile("cli; hlt");
}

/* 115200 baud, 8 bits, no parity; FIFO on. */
void serial_init(void)
{
	outb(SERIAL + 3, 0x80);
	outb(SERIAL + 0, 1);
	outb(SERIAL + 1, 0);
	outb(SERIAL + 3, 3);
	outb(SERIAL + 2, 7);
}

/* Fills the FIFO each time that it has run empty. */
void serial_write(const char *text, u64 length)
{
	while (length) {
		u64 part = length < FIFO ? length : FIFO;
		while (!(inb(SERIAL + 5) & THR_EMPTY))
			;
		outs(SERIAL, text, part);
		text += part;
		length -= part;
	}
}
