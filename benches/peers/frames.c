/*
 * Traffic inside another DPDK program: a plug-in of the EAL (`-d`) that gives what the port net_null0 receives the contents of
 * a file of frames, and counts and samples what leaves through net_null1. What it costs is counted too, so that it can be told
 * apart from what the program itself costs.
 *
 * POSTERN_FRAMES   slots of 64 bytes, a frame of 60 in each (`peer-traffic frames`).
 * POSTERN_CONTROL  words of 64 bits, then samples (`peer-traffic watch` writes the first three words and reads the others).
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#define SLOT 64
#define FRAME 60
#define SAMPLES_AT 4096
#define SAMPLES 256
/* One burst in so many gives a sample. */
#define EVERY 256
/* Transmit queues that are watched. */
#define QUEUES 64

/* The words. */
struct control {
	/* Asked for: so many frames of the file in turns, or once; a new turn begins when the number changes. */
	volatile uint64_t frames, once, turn;
	/* Told: both ports are watched; the turn that runs. */
	volatile uint64_t ready, seen;
	/* Of this turn: frames given and taken, cycles spent here, the counter at its first frame and behind its last, samples. */
	volatile uint64_t offered, taken, own, first, last, samples;
};

static struct control *control;
static const uint8_t *frames;
static uint64_t most, at, bursts;

static uint16_t
give(uint16_t port, uint16_t queue, struct rte_mbuf *packets[], uint16_t count, uint16_t max, void *arg)
{
	uint64_t from = rte_rdtsc(), limit = RTE_MIN(control->frames, most);
	uint16_t n;

	(void)port, (void)queue, (void)max, (void)arg;
	if (control->seen != control->turn) {
		at = 0;
		control->offered = control->taken = control->own = control->samples = 0;
		control->first = control->last = from;
		control->seen = control->turn;
	}
	for (n = 0; n < count; n++) {
		if (at >= limit) {
			if (control->once || limit == 0)
				break;
			at = 0;
		}
		memcpy(rte_pktmbuf_mtod(packets[n], void *), frames + at * SLOT, SLOT);
		packets[n]->data_len = FRAME;
		packets[n]->pkt_len = FRAME;
		/* As a NIC would say. */
		packets[n]->ol_flags |= RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD;
		at++;
	}
	if (n < count)
		rte_pktmbuf_free_bulk(packets + n, count - n);
	if (n > 0) {
		control->offered += n;
		control->own += rte_rdtsc() - from;
	}
	return n;
}

static uint16_t
take(uint16_t port, uint16_t queue, struct rte_mbuf *packets[], uint16_t count, void *arg)
{
	uint64_t from = rte_rdtsc(), samples = control->samples;

	(void)port, (void)queue, (void)arg;
	if (count > 0 && samples < SAMPLES && ++bursts % EVERY == 0) {
		uint8_t *slot = (uint8_t *)control + SAMPLES_AT + samples * SLOT;
		uint16_t len = RTE_MIN(packets[0]->data_len, SLOT);

		memset(slot, 0, SLOT);
		memcpy(slot, rte_pktmbuf_mtod(packets[0], void *), len);
		control->samples = samples + 1;
	}
	control->taken += count;
	control->last = rte_rdtsc();
	control->own += control->last - from;
	return count;
}

/* Ports appear, and get their queues, when the program likes: so this looks for them again and again. */
static void *
attach(void *arg)
{
	const struct rte_eth_rxtx_callback *receives = NULL, *sends[QUEUES] = {NULL};
	struct rte_eth_dev_info info;
	uint16_t port, queue;

	(void)arg;
	for (;;) {
		if (receives == NULL && rte_eth_dev_get_port_by_name("net_null0", &port) == 0)
			receives = rte_eth_add_rx_callback(port, 0, give, NULL);
		if (rte_eth_dev_get_port_by_name("net_null1", &port) == 0 && rte_eth_dev_info_get(port, &info) == 0)
			for (queue = 0; queue < info.nb_tx_queues && queue < QUEUES; queue++)
				if (sends[queue] == NULL)
					sends[queue] = rte_eth_add_tx_callback(port, queue, take, NULL);
		if (receives != NULL && sends[0] != NULL)
			control->ready = 1;
		usleep(100000);
	}
	return NULL;
}

static void *
map(const char *variable, int flags, int protection, size_t *size)
{
	const char *path = getenv(variable);
	struct stat about;
	void *memory;
	int file = path == NULL ? -1 : open(path, flags);

	if (file < 0 || fstat(file, &about) != 0)
		return NULL;
	*size = about.st_size;
	memory = mmap(NULL, *size, protection, MAP_SHARED | MAP_POPULATE, file, 0);
	close(file);
	return memory == MAP_FAILED ? NULL : memory;
}

__attribute__((constructor)) static void
start(void)
{
	size_t size = 0;
	pthread_t thread;

	frames = map("POSTERN_FRAMES", O_RDONLY, PROT_READ, &size);
	most = size / SLOT;
	control = map("POSTERN_CONTROL", O_RDWR, PROT_READ | PROT_WRITE, &size);
	if (frames != NULL && control != NULL && size >= SAMPLES_AT + SAMPLES * SLOT
	    && pthread_create(&thread, NULL, attach, NULL) == 0)
		pthread_detach(thread);
}
