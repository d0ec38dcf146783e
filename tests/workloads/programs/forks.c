/* A child for each number of a list, up to eight at a time: each makes its one call and exits. */
#include "sys.h"
#include "numbers.h"

int program(char **argv)
{
	int count = read_numbers();
	int living = 0;

	(void)argv;
	if (count <= 0)
		return 1;
	for (int i = 0; i < count || living; ) {
		if (i < count && living < 8) {
			long child = sys0(57);			/* fork */

			if (child == 0) {
				call(numbers[i]);
				sys1(60, 0);			/* exit */
			}
			if (child < 0)
				return 2;
			i++;
			living++;
		} else {
			if (sys6(61, -1, 0, 0, 0, 0, 0) < 0)	/* wait4 */
				return 3;
			living--;
		}
	}
	return 0;
}
