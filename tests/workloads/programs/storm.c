/* `storm MILLISECONDS`: four threads make all calls of a list over and over; what was called, the program's own calls included, is
 * its log: 3 x 1,024 bytes (x86_64, i386, x32), one where a number was called, and the count of calls as a 64-bit word. */
#include "sys.h"
#include "thread.h"
#include "numbers.h"

#define THREADS 4

static struct {
	u8 called[3][1024];
	u64 calls;
} log;
static char stacks[THREADS][STACK] __attribute__((aligned(16)));
static volatile int tids[THREADS];
static volatile int stop;
static int count;

INLINE u8 *entry_of(u32 entry)
{
	int abi = entry & I386 ? 1 : entry >> 30 & 1 ? 2 : 0;

	return &log.called[abi][entry & 1023];
}

static void run(void *arg)
{
	long me = (long)arg;
	u64 calls = 0;

	while (!stop)
		for (int i = 0; i < count && !stop; i++) {
			u32 entry = numbers[(i + me * count / THREADS) % count];

			*(volatile u8 *)entry_of(entry) = 1;
			call(entry);
			calls++;
		}
	__atomic_add_fetch(&log.calls, calls, __ATOMIC_RELAXED);
	*(volatile u8 *)&log.called[0][60] = 1;
	sys1(60, 0);				/* exit */
}

int program(char **argv)
{
	long ms = number(argv[1]);
	long time[2] = { ms / 1000, ms % 1000 * 1000000 };
	static const int own[] = { 0 /* read */, 1 /* write */, 24 /* sched_yield */, 35 /* nanosleep */, 56 /* clone */, EXIT_GROUP };

	for (unsigned i = 0; i < sizeof(own) / sizeof(*own); i++)
		log.called[0][own[i]] = 1;
	count = read_numbers();
	if (count <= 0)
		return 1;
	for (long i = 0; i < THREADS; i++) {
		tids[i] = 1;
		if (thread(run, (void *)i, stacks[i] + STACK, &tids[i]) < 0)
			return 2;
	}
	sys3(35, (long)time, 0, 0);
	stop = 1;
	for (int i = 0; i < THREADS; i++)
		do
			sys0(24);
		while (tids[i]);
	return sys3(1, 1, (long)&log, sizeof(log)) != sizeof(log);
}
