/* System calls: what ring 3 may ask for. It never trusts an address or a length. */
#include "kernel.h"

#define MOST_WRITTEN 256

u64 system_calls;

static i64 sys_write(struct task *task, u64 text, u64 length)
{
	if (length > MOST_WRITTEN)
		return -EINVAL;
	for (u64 done = 0, part; done < length; done += part) {
		u64 at = user_page(task, text + done);
		if (!at)
			return -EFAULT;
		part = PAGE_SIZE - (at & (PAGE_SIZE - 1));
		part = part < length - done ? part : length - done;
		serial_write((const char *)at, part);
	}
	return (i64)length;
}

static i64 sys_sbrk(struct task *task, u64 bytes)
{
	u64 before = task->brk;
	if (bytes > USER_HEAP_END - before)
		return -ENOMEM;
	task->brk = before + bytes;
	return (i64)before;
}

static i64 sys_sleep(struct task *task, u64 time)
{
	task->state = SLEEPING;
	task->wake_at = time > ~ticks ? ~0UL : ticks + time;
	return 0;
}

static i64 sys_exit(struct task *task, u64 code)
{
	task->exit_code = code;
	log("%s (%lu) exits with %lu", task->name, task->pid, code);
	end_task(task, ZOMBIE);
	return 0;
}

static i64 call(struct task *task, struct regs *regs)
{
	switch (regs->rax) {
	case SYS_EXIT:
		return sys_exit(task, regs->rdi);
	case SYS_WRITE:
		return sys_write(task, regs->rdi, regs->rsi);
	case SYS_YIELD:
		resched = 1;
		return 0;
	case SYS_SLEEP:
		return sys_sleep(task, regs->rdi);
	case SYS_GETPID:
		return (i64)task->pid;
	case SYS_TICKS:
		return (i64)ticks;
	case SYS_SBRK:
		return sys_sbrk(task, regs->rdi);
	case SYS_CARD:
		return card_start(task, regs->rdi, regs->rsi, regs->rdx);
	default:
		return -ENOSYS;
	}
}

void system_call(struct task *task)
{
	system_calls++;
	task->syscalls++;
	task->frame.rax = (u64)call(task, &task->frame);
}
