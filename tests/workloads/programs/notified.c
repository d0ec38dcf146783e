/* A thread whose calls of getsid a listener decides on: 23 are refused with errno 13, then 5 are let through. While the first 3 wait for
 * their answer a signal comes, and they are made again. */
#include "sys.h"
#include "thread.h"

#define REFUSED 23
#define ALL 28

static const struct {
	unsigned short code;
	u8 jt, jf;
	u32 k;
} filter[] = {
	{ 0x20, 0, 0, 0 },		/* load the number */
	{ 0x15, 0, 1, 124 },		/* getsid? */
	{ 0x06, 0, 0, 0x7fc00000 },	/* ask the listener */
	{ 0x06, 0, 0, 0x7fff0000 },	/* allow */
};

static const struct {
	unsigned short length;
	const void *filter;
} filter_program = { 4, filter };

static char stack[STACK] __attribute__((aligned(16)));
static volatile int tid, caller, listener, handled, wrong;

void restore(void);
__asm__("restore:\n"
	"	mov $15, %eax\n"	/* rt_sigreturn */
	"	syscall\n");

static void handle(int signal)
{
	(void)signal;
	handled++;
}

static void run(void *arg)
{
	(void)arg;
	caller = sys0(186);					/* gettid */
	listener = sys3(317, 1, 8, (long)&filter_program);	/* seccomp SECCOMP_FILTER_FLAG_NEW_LISTENER */
	for (long k = 0; listener > 0 && k < ALL; k++)
		wrong |= (sys6(124, k, 7, 7, 7, 7, 7) == -13) != (k < REFUSED);
	sys1(60, 0);						/* exit */
}

int program(char **argv)
{
	struct {
		void (*handler)(int);
		unsigned long flags;
		void (*restorer)(void);
		u64 mask;
	} action = { handle, 0x14000000 /* SA_RESTORER | SA_RESTART */, restore, 0 };

	(void)argv;
	tid = 1;
	if (sys6(13, 10, (long)&action, 0, 8, 0, 0) ||		/* rt_sigaction SIGUSR1 */
	    sys6(157, 38, 1, 0, 0, 0, 0) ||			/* prctl PR_SET_NO_NEW_PRIVS */
	    thread(run, 0, stack + STACK, &tid) < 0)
		return 1;
	while (!listener)
		sys0(24);					/* sched_yield */
	for (int answered = 0, asked = 0; answered < ALL; asked++) {
		struct {
			u64 id;
			u32 pid, flags;
			u64 data[8];
		} notice = { 0 };
		struct {
			u64 id, value;
			int error;
			u32 flags;
		} answer = { 0 };

		if (listener < 0 || sys3(16, listener, 0xc0502100, (long)&notice))	/* ioctl SECCOMP_IOCTL_NOTIF_RECV */
			return 2;
		if (asked % 2 == 0 && asked < 6) {
			sys3(234, sys0(39), caller, 10);	/* tgkill, getpid */
			continue;
		}
		answer.id = notice.id;
		answer.error = answered < REFUSED ? -13 : 0;
		answer.flags = answered++ >= REFUSED;		/* SECCOMP_USER_NOTIF_FLAG_CONTINUE */
		if (sys3(16, listener, 0xc0182101, (long)&answer))	/* ioctl SECCOMP_IOCTL_NOTIF_SEND */
			return 3;
	}
	while (tid)
		sys0(24);
	return wrong ? 4 : handled != 3 ? 5 : 0;
}
