#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* fopencookie */
#endif
/* Events of devices have been experimental for years. */
#ifndef ALLOW_EXPERIMENTAL_API
#define ALLOW_EXPERIMENTAL_API
#endif
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include "shim.h"

#ifdef POSTERN_NET_RING
#include <rte_eth_ring.h>
#include <rte_ring.h>
#endif

/* Rust reads and writes these fields through their offsets, in these widths. */
_Static_assert(sizeof(((struct rte_mbuf *)0)->buf_addr) == sizeof(void *), "buf_addr is a pointer");
_Static_assert(sizeof(((struct rte_mbuf *)0)->buf_len) == 2, "buf_len has 16 bits");
_Static_assert(sizeof(((struct rte_mbuf *)0)->data_off) == 2, "data_off has 16 bits");
_Static_assert(sizeof(((struct rte_mbuf *)0)->data_len) == 2, "data_len has 16 bits");
_Static_assert(sizeof(((struct rte_mbuf *)0)->pkt_len) == 4, "pkt_len has 32 bits");
_Static_assert(sizeof(((struct rte_mbuf *)0)->nb_segs) == 2, "nb_segs has 16 bits");
_Static_assert(sizeof(((struct rte_mbuf *)0)->ol_flags) == 8, "ol_flags has 64 bits");

struct rte_mbuf *postern_pktmbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int postern_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

void postern_pktmbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

int postern_pktmbuf_chain(struct rte_mbuf *head, struct rte_mbuf *tail)
{
	return rte_pktmbuf_chain(head, tail);
}

uint16_t postern_pktmbuf_segment(const struct rte_mbuf *mbuf)
{
	return mbuf->tso_segsz;
}

int postern_pktmbuf_copy_out(const struct rte_mbuf *mbuf, uint32_t at, uint32_t len, void *to)
{
	const void *found = rte_pktmbuf_read(mbuf, at, len, to);

	if (found == NULL)
		return -1;
	/* What lies in one segment is not copied, but pointed at. */
	if (found != to)
		memcpy(to, found, len);
	return 0;
}

void postern_pktmbuf_lengths(struct rte_mbuf *mbuf, uint64_t l2, uint64_t l3, uint64_t l4, uint64_t segment)
{
	mbuf->tx_offload = rte_mbuf_tx_offload(l2, l3, l4, segment, 0, 0, 0);
}

uint16_t postern_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, mbufs, count);
}

uint16_t postern_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, mbufs, count);
}

uint16_t postern_eth_tx_prepare(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_prepare(port, queue, mbufs, count);
}

int postern_eth_link(uint16_t port, uint32_t *speed, uint8_t *up)
{
	struct rte_eth_link link = { 0 };
	int ret = rte_eth_link_get_nowait(port, &link);

	*speed = link.link_speed;
	*up = link.link_status == RTE_ETH_LINK_UP;
	return ret;
}

/* Ports whose device was pulled out, or is asked for by the kernel. Written by DPDK's interrupt thread. */
static uint8_t removed[RTE_MAX_ETHPORTS];
/* Ports that were set up, and not let go of since. */
static uint8_t ours[RTE_MAX_ETHPORTS];

static int on_removal(uint16_t port, enum rte_eth_event_type event, void *arg, void *ret)
{
	(void)event, (void)arg, (void)ret;
	if (port < RTE_DIM(removed))
		__atomic_store_n(&removed[port], 1, __ATOMIC_RELEASE);
	return 0;
}

/* vfio tells it of the device: the kernel waits until we let go of it. */
static void on_device(const char *name, enum rte_dev_event_type event, void *arg)
{
	(void)name;
	if (event == RTE_DEV_EVENT_REMOVE)
		on_removal((uint16_t)(uintptr_t)arg, RTE_ETH_EVENT_INTR_RMV, NULL, NULL);
}

int postern_eth_watch_removal(uint16_t port)
{
	struct rte_eth_dev_info info;
	int ret;

	if (port >= RTE_DIM(removed))
		return -EINVAL;
	__atomic_store_n(&removed[port], 0, __ATOMIC_RELEASE);
	__atomic_store_n(&ours[port], 1, __ATOMIC_RELEASE);
	ret = rte_eth_dev_callback_register(port, RTE_ETH_EVENT_INTR_RMV, on_removal, NULL);
	if (ret == 0)
		ret = rte_eth_dev_info_get(port, &info);
	if (ret == 0)
		ret = rte_dev_event_callback_register(rte_dev_name(info.device), on_device, (void *)(uintptr_t)port);
	return ret;
}

/* Whether another port of ours is on the device too. Those that nobody set up go with the device. */
static int is_shared(uint16_t port, const struct rte_device *device)
{
	struct rte_eth_dev_info info;
	uint16_t other;

	RTE_ETH_FOREACH_DEV(other)
		if (other != port && __atomic_load_n(&ours[other], __ATOMIC_ACQUIRE) && rte_eth_dev_info_get(other, &info) == 0 && info.device == device)
			return 1;
	return 0;
}

int postern_eth_let_go(uint16_t port)
{
	struct rte_eth_dev_info info;
	int known, stopped, closed;

	if (port >= RTE_DIM(ours))
		return -EINVAL;
	__atomic_store_n(&ours[port], 0, __ATOMIC_RELEASE);
	known = rte_eth_dev_info_get(port, &info);
	if (known == 0)
		(void)rte_dev_event_callback_unregister(rte_dev_name(info.device), on_device, (void *)(uintptr_t)port);
	stopped = rte_eth_dev_stop(port);
	if (known == 0 && is_shared(port, info.device)) {
		closed = rte_eth_dev_close(port);
		return stopped != 0 ? stopped : closed != 0 ? closed : 1;
	}
	/* What does not stop is closed by its driver when the device goes. */
	closed = rte_eth_dev_close(port);
	if (known == 0)
		known = rte_dev_remove(info.device);
	return known != 0 ? known : stopped != 0 ? stopped : closed;
}

int postern_eth_removed(uint16_t port)
{
	if (port < RTE_DIM(removed) && __atomic_load_n(&removed[port], __ATOMIC_ACQUIRE))
		return 1;
	return rte_eth_dev_is_removed(port);
}

/* What the driver says, in the words of shim.h. */
static int read_pause(uint16_t port, struct rte_eth_fc_conf *conf)
{
	int ret = rte_eth_dev_flow_ctrl_get(port, conf);

	if (ret != 0)
		return ret < 0 ? ret : -EIO;
	switch (conf->mode) {
	case RTE_ETH_FC_NONE:
		return 0;
	case RTE_ETH_FC_TX_PAUSE:
		return 1;
	case RTE_ETH_FC_RX_PAUSE:
		return 2;
	default:
		return 3;
	}
}

int postern_eth_no_pause(uint16_t port, int *set)
{
	struct rte_eth_fc_conf conf = { 0 };
	int said = read_pause(port, &conf);

	*set = 0;
	if (said < 0)
		return said;
	/*
	 * Also where it is off: as long as the link is down, drivers that negotiate (igb) say so whatever they offer to
	 * the other end.
	 */
	conf.mode = RTE_ETH_FC_NONE;
	*set = rte_eth_dev_flow_ctrl_set(port, &conf);
	return said;
}

int postern_eth_pause(uint16_t port)
{
	struct rte_eth_fc_conf conf = { 0 };
	struct rte_eth_dev_info info;
	struct rte_eth_link link;

	/*
	 * i40e answers what its firmware last told it, and only a query that may wait asks anew. It comes back at once while
	 * the link is up, and within a second if it has just gone. Other drivers read registers, and may wait for longer.
	 */
	if (rte_eth_dev_info_get(port, &info) == 0 && info.driver_name != NULL &&
	    strcmp(info.driver_name, "net_i40e") == 0)
		(void)rte_eth_link_get(port, &link);
	return read_pause(port, &conf);
}

int postern_eth_ring_pair(const char *name, uint16_t queues, uint32_t size, int socket, uint16_t ports[2])
{
#ifdef POSTERN_NET_RING
	/* rings[0] carries first to second, rings[1] second to first. They live as long as the EAL. */
	struct rte_ring *rings[2][RTE_MAX_QUEUES_PER_PORT];
	char label[RTE_RING_NAMESIZE];
	unsigned int node = socket < 0 ? 0 : (unsigned int)socket;

	if (queues == 0 || queues > RTE_DIM(rings[0]))
		return -EINVAL;
	for (unsigned int way = 0; way < 2; way++) {
		for (uint16_t q = 0; q < queues; q++) {
			if (snprintf(label, sizeof(label), "%s_%u_%u", name, way, q) >= (int)sizeof(label))
				return -ENAMETOOLONG;
			rings[way][q] = rte_ring_create(label, size, socket, RING_F_SP_ENQ | RING_F_SC_DEQ);
			if (rings[way][q] == NULL)
				return -rte_errno;
		}
	}
	for (unsigned int side = 0; side < 2; side++) {
		int port;

		if (snprintf(label, sizeof(label), "%s_%c", name, 'a' + (char)side) >= (int)sizeof(label))
			return -ENAMETOOLONG;
		rte_errno = 0;
		port = rte_eth_from_rings(label, rings[!side], queues, rings[side], queues, node);
		if (port < 0)
			return rte_errno > 0 ? -rte_errno : -EINVAL;
		ports[side] = (uint16_t)port;
	}
	return 0;
#else
	(void)name, (void)queues, (void)size, (void)socket, (void)ports;
	return -ENOTSUP;
#endif
}

uint32_t postern_lcore_id(void)
{
	return rte_lcore_id();
}

int postern_errno(void)
{
	return rte_errno;
}

/* DPDK writes a message to a stream and flushes it: with a full buffer each message is one call. */
static ssize_t write_log(void *cookie, const char *line, size_t len)
{
	(*(postern_log_sink *)cookie)((uint32_t)rte_log_cur_msg_loglevel(), line, len);
	return (ssize_t)len;
}

int postern_log_to(postern_log_sink sink)
{
	static postern_log_sink kept;
	cookie_io_functions_t calls = { .write = write_log };
	FILE *stream;

	kept = sink;
	stream = fopencookie(&kept, "w", calls);
	if (stream == NULL)
		return -errno;
	/* Never closed: the logger may use it until the process ends. */
	return rte_openlog_stream(stream);
}
