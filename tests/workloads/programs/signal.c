/* A signal handler: its end is the call rt_sigreturn. */
#include "sys.h"

void restore(void);
__asm__("restore:\n"
	"	mov $15, %eax\n"	/* rt_sigreturn */
	"	syscall\n");

static volatile int handled;

static void handle(int signal)
{
	call_23_times(110);		/* getppid */
	handled = signal;
}

int program(char **argv)
{
	struct {
		void (*handler)(int);
		unsigned long flags;
		void (*restorer)(void);
		u64 mask;
	} action = { handle, 0x04000000 /* SA_RESTORER */, restore, 0 };

	(void)argv;
	if (sys6(13, 10, (long)&action, 0, 8, 0, 0))		/* rt_sigaction SIGUSR1 */
		return 1;
	sys3(62, sys0(39), 10, 0);				/* kill, getpid */
	return handled != 10;
}
