/* The first process of the test guest: mount what a shell expects, run the shell on the console, reset when it ends.
 *
 * It owns nothing but the three mounts and one child. It never links a C library: on a software KVM every page fault of a
 * larger init costs milliseconds.
 */
#include <asm/unistd.h>

#define LINUX_REBOOT_MAGIC1 0xfee1deadL
#define LINUX_REBOOT_MAGIC2 672274793L
#define LINUX_REBOOT_CMD_RESTART 0x01234567L
#define O_RDWR 2
#define TIOCSCTTY 0x540E

static long call(long n, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long result;

	__asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return result;
}

static void print(const char *text)
{
	long n = 0;

	while (text[n])
		n++;
	call(__NR_write, 1, (long)text, n, 0, 0);
}

static void mount(const char *type, const char *at)
{
	call(__NR_mkdir, (long)at, 0755, 0, 0, 0);
	call(__NR_mount, (long)type, (long)at, (long)type, 0, 0);
}

static void shell(void)
{
	static char *const argv[] = { "sh", "-i", 0 };
	static char *const envp[] = { "PATH=/bin", "HOME=/", "TERM=vt100", "PS1=belljar# ", 0 };

	call(__NR_setsid, 0, 0, 0, 0, 0);
	call(__NR_ioctl, 0, TIOCSCTTY, 1, 0, 0);
	call(__NR_execve, (long)"/bin/busybox", (long)argv, (long)envp, 0, 0);
	print("init: cannot run /bin/busybox\n");
	call(__NR_exit, 127, 0, 0, 0, 0);
}

void start(void)
{
	long child;

	mount("devtmpfs", "/dev");
	call(__NR_open, (long)"/dev/console", O_RDWR, 0, 0, 0);
	call(__NR_dup, 0, 0, 0, 0, 0);
	call(__NR_dup, 0, 0, 0, 0, 0);
	print("init: the first process runs\n");
	mount("proc", "/proc");
	mount("sysfs", "/sys");
	child = call(__NR_vfork, 0, 0, 0, 0, 0);
	if (child == 0)
		shell();
	while (call(__NR_wait4, -1, 0, 0, 0, 0) != child)
		;
	print("init: the shell has ended; resetting\n");
	call(__NR_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART, 0, 0);
	for (;;)
		call(__NR_pause, 0, 0, 0, 0, 0);
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tand $-16, %rsp\n\tcall start\n");
