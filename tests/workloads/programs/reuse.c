/* `reuse CGROUP`: for each pair of a list, a child that is born in that cgroup makes the first call and exits, then a child with the
 * **same pid** that is born outside makes the second. The program itself stays outside. */
#include "sys.h"
#include "numbers.h"

#define INTO_CGROUP 0x200000000ull

static int child(u32 entry, int pid, u64 flags, u64 cgroup)
{
	u64 args[11] = { 0 };
	long got;

	args[0] = flags;
	args[4] = 17;				/* exit_signal: SIGCHLD */
	if (pid) {
		args[8] = (u64)&pid;		/* set_tid */
		args[9] = 1;
	}
	args[10] = cgroup;
	got = sys3(435, (long)args, sizeof(args), 0);	/* clone3 */
	if (got == 0) {
		call(entry);
		sys1(60, 0);			/* exit */
	}
	return got < 0 || sys6(61, got, 0, 0, 0, 0, 0) != got ? -1 : (int)got;
}

int program(char **argv)
{
	int count = read_numbers();
	long cgroup = sys3(257, -100, (long)argv[1], 0200000 /* O_DIRECTORY */);
	int pid = 0;

	if (count <= 0)
		return 1;
	if (cgroup < 0)
		return 2;
	for (int i = 0; i + 1 < count; i += 2) {
		pid = child(numbers[i], pid, INTO_CGROUP, cgroup);
		if (pid < 0)
			return 3;
		if (child(numbers[i + 1], pid, 0, 0) != pid)
			return 4;
	}
	return 0;
}
