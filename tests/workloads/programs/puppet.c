/* `puppet FILE`: makes the calls that another process writes into a shared page, and no others between them: it waits by looking. */
#include "sys.h"

/* Mirrored by `workloads::puppet`. */
struct page {
	volatile u32 command;		/* raised by the master when the fields below are set */
	volatile u32 done;		/* set to `command` by the puppet when the call has returned */
	volatile u32 i386;
	volatile u32 stop;		/* ends a repetition early */
	volatile u64 times;
	volatile long nr;
	volatile long args[6];
	volatile long result;		/* of the last of `times` calls */
	volatile u64 made;		/* calls made in all */
};

int program(char **argv)
{
	long file = sys3(257, -100, (long)argv[1], 2 /* O_RDWR */);
	struct page *page;

	if (file < 0)
		return 1;
	/* Where `workloads::puppet` expects it: strings for the calls lie in the page as well. */
	page = (struct page *)sys6(9, 0x10000000, 4096, 3 /* READ|WRITE */, 0x11 /* SHARED|FIXED */, file, 0);
	if (page != (struct page *)0x10000000)
		return 2;
	for (;;) {
		u32 command;

		while ((command = page->command) == page->done)
			__asm__ volatile("pause");
		__asm__ volatile("" ::: "memory");
		for (u64 i = 0; i < page->times && !page->stop; i++) {
			page->result = page->i386 ?
				int80(page->nr, page->args[0], page->args[1], page->args[2], page->args[3], page->args[4]) :
				sys6(page->nr, page->args[0], page->args[1], page->args[2], page->args[3], page->args[4], page->args[5]);
			page->made++;
		}
		page->done = command;
	}
}
