/* Carries work to the test card and checks what comes back; goes on without a card, should there be none. */
#include "user.h"

/* In a page of its own: the card reads and writes it. */
char courier_parcel[256] __attribute__((aligned(256)));

static u64 fill(u64 visit)
{
	static const char text[] = "parcel number ";
	u64 length = 0, sum = 0;
	while (text[length]) {
		courier_parcel[length] = text[length];
		length++;
	}
	courier_parcel[length++] = (char)('0' + visit % 10);
	for (u64 i = 0; i < length; i++)
		sum += (u8)courier_parcel[i];
	return length << 32 | sum;
}

static int is_upper(u64 length)
{
	for (u64 i = 0; i < length; i++)
		if (courier_parcel[i] >= 'a' && courier_parcel[i] <= 'z')
			return 0;
	return 1;
}

static void note(i64 result, u64 expected)
{
	ON_BOARD(courier_result) = (u64)result;
	if (result < 0)
		ON_BOARD(courier_failed)++;
	else if ((u64)result == expected)
		ON_BOARD(courier_done)++;
	else
		ON_BOARD(courier_wrong)++;
}

static void visit(u64 number)
{
	u64 parcel = fill(number), length = parcel >> 32, sum = parcel & 0xffffffff;
	u64 a = number * 0x10001, b = 0xfffffff0 + number;
	i64 result;
	switch (number % 4) {
	case 0:
		note(system_call(SYS_CARD, CARD_ADD, a, b), (u32)(a + b));
		break;
	case 1:
		note(system_call(SYS_CARD, CARD_MULTIPLY, a, b), (u32)(a * b));
		break;
	case 2:
		note(system_call(SYS_CARD, CARD_CHECKSUM, (u64)courier_parcel, length), sum);
		break;
	default:
		result = system_call(SYS_CARD, CARD_UPPER, (u64)courier_parcel, length);
		note(result, is_upper(length) ? 12 : ~0UL);
	}
}

void courier(void)
{
	for (u64 number = 0;; number++) {
		visit(number);
		sleep(ON_BOARD(courier_period));
	}
}
