/* The driver of the test card: one operation at a time, ended by its interrupt, or by looking when none comes.
 * It never copies data: the card reads and writes the process's own page. */
#include "kernel.h"

#define CARD 0xfeb00000UL
#define ID 0x00
#define CONTROL 0x08
#define STATUS 0x0c
#define OPERAND_A 0x10
#define OPERAND_B 0x14
#define OPERATION 0x18
#define RESULT 0x1c
#define DMA_LOW 0x20
#define DMA_HIGH 0x24
#define DMA_LENGTH 0x28

#define MAGIC 0x52414a42 /* "BJAR" */
#define ENABLE 1
#define IRQ_ENABLE 2
#define RESET 4
#define DONE 2
#define FAILED 4

#define CARD_PIN 5
#define LOOK_AFTER 2      /* ticks without an interrupt */
#define GIVE_UP_AFTER 100 /* ticks in all */

u64 card_present, card_interrupts, card_spurious, card_polls, card_timeouts;
struct task *card_user;
static u64 given_up_at;

static u32 get(u64 at)
{
	return mmio_read(CARD + at);
}

static void set(u64 at, u32 value)
{
	mmio_write(CARD + at, value);
}

/* Is there a card? One may be plugged in later. */
static bool find(void)
{
	if (card_present)
		return true;
	if (get(ID) != MAGIC)
		return false;
	card_present = 1;
	set(CONTROL, RESET);
	set(CONTROL, ENABLE | IRQ_ENABLE);
	ioapic_route(CARD_PIN, VECTOR_CARD);
	log("test card found");
	return true;
}

static i64 set_buffer(struct task *task, u64 at, u64 length)
{
	u64 physical = user_page(task, at);
	if (!physical)
		return -EFAULT;
	if (length > PAGE_SIZE - (at & (PAGE_SIZE - 1)))
		return -EINVAL;
	set(DMA_LOW, (u32)physical);
	set(DMA_HIGH, (u32)(physical >> 32));
	set(DMA_LENGTH, (u32)length);
	return 0;
}

/* Has the card begin, and the process wait; the result comes into its frame. */
i64 card_start(struct task *task, u64 operation, u64 a, u64 b)
{
	if (!find())
		return -ENODEV;
	if (card_user)
		return -EBUSY;
	if (operation == CARD_CHECKSUM || operation == CARD_UPPER) {
		i64 error = set_buffer(task, a, b);
		if (error)
			return error;
	} else {
		set(OPERAND_A, (u32)a);
		set(OPERAND_B, (u32)b);
	}
	card_user = task;
	given_up_at = ticks + GIVE_UP_AFTER;
	task->state = WAITING;
	task->wake_at = ticks + LOOK_AFTER;
	set(OPERATION, (u32)operation);
	return 0;
}

static void end(u64 result)
{
	if (!card_user)
		return;
	card_user->frame.rax = result;
	wake(card_user);
	card_user = NULL;
}

/* Takes the result, if the card has one. */
static bool collect(void)
{
	u32 status = get(STATUS) & (DONE | FAILED);
	if (!status)
		return false;
	u32 result = get(RESULT);
	set(STATUS, status);
	end(status & FAILED ? (u64)-EIO : result);
	return true;
}

void card_interrupt(void)
{
	card_interrupts++;
	if (!collect())
		card_spurious++;
}

/* No interrupt has come in time: looks itself, now and at each tick until it gives up. */
void card_timeout(struct task *task)
{
	if (task != card_user)
		return;
	if (collect()) {
		card_polls++;
	} else if (ticks >= given_up_at) {
		card_timeouts++;
		log("the test card does not answer");
		card_present = 0;
		end((u64)-ETIMEDOUT);
	}
}

void card_forget(struct task *task)
{
	if (task == card_user)
		card_user = NULL;
}
