/*
 * What Rust needs of DPDK that bindgen cannot give: inline functions, function-like macros, thread-local variables,
 * and fields that sit in other unions in other releases. One call each, no logic.
 */
#ifndef POSTERN_SHIM_H
#define POSTERN_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_hash.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

/* Where an mbuf's fields are. Releases move them between unions; the compiler knows the offset all the same. */
static const size_t POSTERN_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr);
static const size_t POSTERN_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len);
static const size_t POSTERN_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off);
static const size_t POSTERN_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len);
static const size_t POSTERN_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len);
static const size_t POSTERN_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs);
static const size_t POSTERN_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags);

static const uint16_t POSTERN_HEADROOM = RTE_PKTMBUF_HEADROOM;

/* Flow types of receive-side scaling, as bits of rss_hf. */
static const uint64_t POSTERN_RSS_IP = RTE_ETH_RSS_IP;
static const uint64_t POSTERN_RSS_TCP = RTE_ETH_RSS_TCP;
static const uint64_t POSTERN_RSS_UDP = RTE_ETH_RSS_UDP;
static const uint64_t POSTERN_RSS_IPV4_TCP = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
static const uint64_t POSTERN_RSS_IPV4_UDP = RTE_ETH_RSS_NONFRAG_IPV4_UDP;
static const uint32_t POSTERN_MQ_RX_RSS = RTE_ETH_MQ_RX_RSS;

/* Offloads, as bits of a device's capabilities, and what they say of a packet. */
static const uint64_t POSTERN_RX_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t POSTERN_RX_UDP_CKSUM = RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
static const uint64_t POSTERN_RX_TCP_CKSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t POSTERN_RX_LRO = RTE_ETH_RX_OFFLOAD_TCP_LRO;
static const uint64_t POSTERN_RX_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t POSTERN_TX_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
static const uint64_t POSTERN_TX_TCP_CKSUM = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
static const uint64_t POSTERN_TX_UDP_CKSUM = RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
static const uint64_t POSTERN_TX_IPV4_CKSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t POSTERN_TX_TSO = RTE_ETH_TX_OFFLOAD_TCP_TSO;
static const uint64_t POSTERN_TX_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t POSTERN_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t POSTERN_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t POSTERN_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t POSTERN_L4_CKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;
static const uint64_t POSTERN_L4_CKSUM_NONE = RTE_MBUF_F_RX_L4_CKSUM_NONE;
static const uint64_t POSTERN_AGGREGATE = RTE_MBUF_F_RX_LRO;

/* What is asked of a device for a packet that is sent. */
static const uint64_t POSTERN_SEND_IPV4 = RTE_MBUF_F_TX_IPV4;
static const uint64_t POSTERN_SEND_TCP_CKSUM = RTE_MBUF_F_TX_TCP_CKSUM;
static const uint64_t POSTERN_SEND_UDP_CKSUM = RTE_MBUF_F_TX_UDP_CKSUM;
static const uint64_t POSTERN_SEND_SEGMENTS = RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_IP_CKSUM;
/* All that is asked for here. */
static const uint64_t POSTERN_SEND_MASK =
	RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_L4_MASK | RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_IP_CKSUM;

static const uint32_t POSTERN_LCORE_ANY = LCORE_ID_ANY;
static const int POSTERN_SOCKET_ANY = SOCKET_ID_ANY;

/* Packets. */
struct rte_mbuf *postern_pktmbuf_alloc(struct rte_mempool *pool);
int postern_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count);
void postern_pktmbuf_free(struct rte_mbuf *mbuf);
/* Appends a segment to a packet. 0 or a negative errno. */
int postern_pktmbuf_chain(struct rte_mbuf *head, struct rte_mbuf *tail);
/* Bytes of payload of the segments that a device has put together, where it says that it has. */
uint16_t postern_pktmbuf_segment(const struct rte_mbuf *mbuf);
/* Copies `len` bytes from `at` on, over all segments. 0, or -1 if there are not so many. */
int postern_pktmbuf_copy_out(const struct rte_mbuf *mbuf, uint32_t at, uint32_t len, void *to);
/* Says how long the headers of a packet are, and of what size its segments shall be (0 for none). */
void postern_pktmbuf_lengths(struct rte_mbuf *mbuf, uint64_t l2, uint64_t l3, uint64_t l4, uint64_t segment);

/* Ports. */
uint16_t postern_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t postern_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
/* Makes packets ready for what is asked of the device for them. How many are: the one behind the last cannot be sent. */
uint16_t postern_eth_tx_prepare(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
/* Speed in Mb/s, and 1 if the link is up. 0 or a negative errno. Does not wait for the link. */
int postern_eth_link(uint16_t port, uint32_t *speed, uint8_t *up);
/* From now on the port's removal is noticed. 0 or a negative errno. */
int postern_eth_watch_removal(uint16_t port);
/* 1 if the device was pulled out since, or is asked for, or says now that it is gone. */
int postern_eth_removed(uint16_t port);
/*
 * Stops and closes a port that nobody uses any more and, if no other port that was set up is on its device, gives the
 * device back to the kernel. 0 if it did, 1 if another port has the device still, or a negative errno: it goes on
 * behind an error, and nobody knows how far.
 */
int postern_eth_let_go(uint16_t port);
/*
 * Asks for no pause frames, both ways. The answer is that of the next before it has asked; where that is an error nothing is
 * asked for. `set` takes what came of it, 0 or a negative errno. What is agreed on the other end decides too: see the next.
 */
int postern_eth_no_pause(uint16_t port, int *set);
/*
 * Whether pause frames are sent (1), obeyed (2), both (3) or neither (0), or a negative errno: -ENOTSUP where the driver does
 * not tell. Only true once the link is up: before, the ends have agreed on nothing. It may wait for the link, up to a second.
 */
int postern_eth_pause(uint16_t port);
/*
 * Makes two ports that are joined back to back: what one sends on queue n, the other receives on queue n. Each queue
 * has one sender and one receiver, and holds `size` - 1 packets (a power of two). `socket` may be POSTERN_SOCKET_ANY.
 * 0 or a negative errno; -ENOTSUP where DPDK came without its ring driver.
 */
int postern_eth_ring_pair(const char *name, uint16_t queues, uint32_t size, int socket, uint16_t ports[2]);

/* Threads. */
uint32_t postern_lcore_id(void);
int postern_errno(void);

/* Sends each log line of DPDK, with its level, to `sink` instead of stderr. 0 or a negative errno. */
typedef void (*postern_log_sink)(uint32_t level, const char *line, size_t len);
int postern_log_to(postern_log_sink sink);

#endif
