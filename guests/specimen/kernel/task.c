/* Processes: their list, whose turn it is, how they begin and end. It never looks into their memory. */
#include "kernel.h"

#define RFLAGS_IF 0x202
#define RESTART_AFTER 50 /* ticks */
#define DEAD_KEPT 4

void printer(void), compute(void), courier(void), rogue(void);

const struct program programs[] = {
	{ "printer", printer, 0 },
	{ "compute", compute, 0 },
	{ "courier", courier, 0 },
	{ "rogue", rogue, 1 },
};
#define PROGRAMS (sizeof programs / sizeof *programs)

const char state_names[][12] = { "running", "ready", "sleeping", "waiting", "zombie", "faulted" };

struct task init_task = { .next = &init_task, .name = "idle", .state = RUNNING, .cr3 = (u64)kernel_pml4 };
struct task *current = &init_task;
u64 ticks, resched, context_switches;
static u64 slice, next_pid = 1;
static u64 restart_at[PROGRAMS];

struct regs *return_to(struct task *task);

static bool is_dead(const struct task *task)
{
	return task->state == ZOMBIE || task->state == FAULTED;
}

static void append(struct task *task)
{
	struct task *last = &init_task;
	while (last->next != &init_task)
		last = last->next;
	task->next = &init_task;
	last->next = task;
}

static void reap(struct task *dead)
{
	struct task *before = &init_task;
	while (before->next != dead)
		before = before->next;
	before->next = dead->next;
	free_space(dead);
	kfree(dead);
}

/* Keeps the last few dead, for whoever wants to know what killed them. */
static void reap_old(void)
{
	struct task *oldest = NULL;
	u64 dead = 0;
	for (struct task *task = init_task.next; task != &init_task; task = task->next)
		if (is_dead(task) && task != current && !dead++)
			oldest = task;
	if (dead > DEAD_KEPT)
		reap(oldest);
}

struct task *spawn(u64 program)
{
	struct task *task = kmalloc(sizeof *task);
	if (!task)
		return NULL;
	*task = (struct task){ .pid = next_pid, .program = program, .brk = USER_HEAP, .born = ticks };
	if (!make_space(task)) {
		kfree(task);
		return NULL;
	}
	for (u64 i = 0; i < sizeof task->name && programs[program].name[i]; i++)
		task->name[i] = programs[program].name[i];
	task->frame.rip = (u64)programs[program].entry;
	task->frame.rsp = USER_STACK - 8; /* as if it had been called */
	task->frame.rflags = RFLAGS_IF;
	task->frame.cs = USER_CODE_SELECTOR;
	task->frame.ss = USER_DATA_SELECTOR;
	task->state = READY;
	next_pid++;
	append(task);
	return task;
}

void start_processes(void)
{
	for (u64 program = 0; program < PROGRAMS; program++) {
		if (!(boot_options.processes >> program & 1))
			continue;
		struct task *task = spawn(program);
		if (!task)
			panic("no memory for %s", programs[program].name);
		log("%s is process %lu", task->name, task->pid);
	}
	resched = 1;
}

void end_task(struct task *task, enum state state)
{
	task->state = state;
	task->died = ticks;
	card_forget(task);
	if (programs[task->program].restarts)
		restart_at[task->program] = ticks + RESTART_AFTER;
}

static void restart(u64 program)
{
	restart_at[program] = 0;
	reap_old();
	struct task *task = spawn(program);
	if (!task) {
		restart_at[program] = ticks + RESTART_AFTER;
		return;
	}
	log("%s is back as process %lu", task->name, task->pid);
	resched = 1;
}

void wake(struct task *task)
{
	task->state = READY;
	resched = 1;
}

void tick(void)
{
	ticks++;
	current->ticks++;
	for (struct task *task = init_task.next; task != &init_task; task = task->next) {
		if (task->state == SLEEPING && task->wake_at <= ticks)
			wake(task);
		else if (task->state == WAITING && task->wake_at <= ticks)
			card_timeout(task);
	}
	for (u64 program = 0; program < PROGRAMS; program++)
		if (restart_at[program] && restart_at[program] <= ticks)
			restart(program);
	if (!slice || !--slice)
		resched = 1;
}

/* The next that is ready, beginning behind the present one; the idle one if there is none. */
static struct task *pick(void)
{
	for (struct task *task = current->next; task != current; task = task->next)
		if (task != &init_task && task->state == READY)
			return task;
	return current->state == READY && current != &init_task ? current : &init_task;
}

static void switch_to(struct task *task)
{
	if (task == current)
		return;
	context_switches++;
	task->switches++;
	if (task->cr3 != current->cr3)
		load_cr3(task->cr3);
	current = task;
}

/* Whose registers to go on with; NULL to idle. */
struct regs *next_frame(void)
{
	if (resched || current->state != RUNNING) {
		resched = 0;
		if (current->state == RUNNING)
			current->state = READY;
		switch_to(pick());
		current->state = RUNNING;
		slice = boot_options.quantum;
	}
	return current == &init_task ? NULL : return_to(current);
}
