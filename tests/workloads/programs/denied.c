/* `denied COUNTS...`: a process for each COUNTS, with a thread for each of its numbers (`1009,2003`: two), which makes that many calls of
 * a list, one after the other. Their first arguments count from 0 in each thread, the others are 7. A SIGSYS is handled. Last it
 * writes two 32-bit words for each process: its id, and its status as wait4 has it. */
#include "sys.h"
#include "thread.h"
#include "numbers.h"

#define MAX 8

static char stacks[MAX][STACK] __attribute__((aligned(16)));
static volatile int tids[MAX];
static int count;

void restore(void);
__asm__("restore:\n"
	"	mov $15, %eax\n"	/* rt_sigreturn */
	"	syscall\n");

static void handle(int signal)
{
	(void)signal;
}

static void run(void *arg)
{
	for (long k = 0; k < (long)arg; k++) {
		u32 entry = numbers[k % count];

		if (entry & I386)
			int80(entry & ~I386, k, 7, 7, 7, 7);
		else
			sys6(entry, k, 7, 7, 7, 7, 7);
	}
	sys1(60, 0);				/* exit */
}

static int process(const char *counts)
{
	long threads = 0;

	for (;; counts++) {
		tids[threads] = 1;
		if (threads == MAX || thread(run, (void *)number(counts), stacks[threads] + STACK, &tids[threads]) < 0)
			return 1;
		threads++;
		while (*counts >= '0' && *counts <= '9')
			counts++;
		if (!*counts)
			break;
	}
	for (long i = 0; i < threads; i++)
		do
			sys0(24);		/* sched_yield */
		while (tids[i]);
	return 0;
}

int program(char **argv)
{
	struct {
		void (*handler)(int);
		unsigned long flags;
		void (*restorer)(void);
		u64 mask;
	} action = { handle, 0x04000000 /* SA_RESTORER */, restore, 0 };
	u32 ended[MAX][2];
	int processes = 0;

	count = read_numbers();
	if (count <= 0 || sys6(13, 31, (long)&action, 0, 8, 0, 0))	/* rt_sigaction SIGSYS */
		return 1;
	for (; argv[1 + processes]; processes++) {
		long pid = processes < MAX ? sys0(57) : -1;		/* fork */

		if (!pid)
			return process(argv[1 + processes]);
		if (pid < 0)
			return 2;
		ended[processes][0] = pid;
	}
	for (int i = 0; i < processes; i++)
		if (sys6(61, ended[i][0], (long)&ended[i][1], 0, 0, 0, 0) < 0)	/* wait4 */
			return 3;
	return sys3(1, 1, (long)ended, processes * 8) != processes * 8;
}
