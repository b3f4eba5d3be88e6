/** All that the delivery code knows of the world: on a real kernel and in a simulation. */

/**
 * Time. Decisions use {@linkcode Clock.nowMs} only.
 *
 * @category Tools
 */
export interface Clock {
  /** Monotonic milliseconds; the origin means nothing. */
  nowMs(): number;
  /** Wall clock in milliseconds since 1970: for people, never for decisions. */
  wallMs(): number;
  /**
   * Calls back once, at least `delayMs` later.
   *
   * @returns Cancels the call; harmless after it.
   */
  setTimer(delayMs: number, callback: () => void): () => void;
  /** Calls back once the events that are already due have been handled. */
  defer(callback: () => void): void;
}

/**
 * Tells of changes of files.
 *
 * @category Tools
 */
export interface FileWatch {
  /**
   * Calls back when somebody has set a file's times, perhaps at other changes of its metadata,
   * not when it is written. What it calls must not throw.
   *
   * @returns Ends it, and resolves once nothing of it is under way.
   * @throws {Error} The file cannot be watched, and why.
   */
  touches(path: string, onTouch: () => void): () => Promise<void>;
  /**
   * Calls back once, when somebody has written into a file whose touches are not watched; the
   * same otherwise.
   */
  nextWrite(path: string, onWrite: () => void): () => Promise<void>;
}

/**
 * Has the filesystem keep space for a part of a file, which grows to its end, without writing it.
 *
 * @category Tools
 * @returns Whether that was done; where it was not, some of it may have been.
 */
export type Allocate = (path: string, fromByte: number, bytes: number) => boolean;

/**
 * Chance: uniform in [0, 1).
 *
 * @category Tools
 */
export type Random = () => number;

/**
 * Where log lines go: `console`, an `@std/log` logger and LogTape all fit.
 *
 * @category Delivery
 */
export interface Logger {
  /** Steps of interest to a developer. */
  debug(message: string, ...data: unknown[]): unknown;
  /** The normal course of things. */
  info(message: string, ...data: unknown[]): unknown;
  /** Something that sendq handles, and a person may want to know. */
  warn(message: string, ...data: unknown[]): unknown;
  /** Something that needs a person. */
  error(message: string, ...data: unknown[]): unknown;
}

/**
 * A packet as it lies in the queue. Its bytes are the bytes on the wire.
 *
 * @category Queue
 */
export interface StoredPacket {
  /** Position in the queue; increases for ever, is never reused. */
  readonly id: number;
  /** The bytes; nobody may change them. */
  readonly payload: Uint8Array;
}

/**
 * Packets with ids that follow each other, their bytes on the wire one behind the other.
 * Nobody may change them.
 *
 * @category Tools
 */
export interface PacketBatch {
  /** The id of the first packet. */
  readonly firstId: number;
  /** The bytes of all packets. */
  readonly bytes: Uint8Array;
  /** Where in them each packet ends: one entry a packet, at least one. */
  readonly ends: Uint32Array;
  /** From when on, by the wall clock, they are not worth sending; `Infinity`: never. */
  readonly expiresAtMs: number;
  /**
   * Nobody else has the memory behind the bytes: whoever sends them gives it back once they
   * are copied.
   */
  readonly ownsMemory?: true;
}

/**
 * The queue, as delivery sees it.
 *
 * @category Tools
 */
export interface DeliveryQueue {
  /** The highest id known to be on disk; 0 when there never was one. */
  readonly lastId: number;
  /** Every id up to this one has left the disk; 0 when none ever did. */
  readonly removedThroughId: number;
  /**
   * Reads the packets that follow `afterId`, in order; those that have expired become dead
   * letters instead.
   *
   * @param afterId Ids greater than this one; nothing above it is in flight.
   * @param maxBytes The most payload, but for a first packet that is larger.
   */
  readBatches(afterId: number, maxBytes: number): Promise<readonly PacketBatch[]>;
  /** Removes every packet up to and including `id`; resolves once that is on disk. */
  removeThrough(id: number): Promise<void>;
  /**
   * Makes packet `id` a dead letter. Resolves once that is on disk; harmless when it is gone.
   *
   * @param id Not in flight.
   * @param attempts In how many connections it was tried.
   * @param words Why, where there is more to say; kept with it.
   */
  giveUp(id: number, attempts: number, words?: string): Promise<void>;
  /**
   * The same of one that the server does not want.
   *
   * @param id The server has answered it, and packets behind it may be in flight.
   * @param words What the server said; kept with it.
   */
  refuse(id: number, words: string): Promise<void>;
  /** Remembers, with the next commit, that ids up to `id` have been on a wire. */
  rememberSent(id: number): void;
  /**
   * Calls back. Returns the unsubscription.
   *
   * @param onPackets Called when `lastId` may have grown.
   * @param onClosed Called once it is closed.
   */
  subscribe(onPackets: () => void, onClosed: () => void): () => void;
  /**
   * For who asks nothing else of it at the moment.
   *
   * @throws {ClosedError} It is closed: nothing can be read or removed any more.
   */
  assertOpen(): void;
}

/**
 * One reading of a connected socket, taken in one go. Names and units follow
 * `struct tcp_info` in include/uapi/linux/tcp.h.
 *
 * @category Dialer
 */
export interface SocketSample {
  /** `tcpi_state`: 1 ESTABLISHED … 7 CLOSE, 8 CLOSE_WAIT; see `TcpState`. */
  readonly state: number;
  /** `ioctl(SIOCOUTQ)`: bytes written and not acknowledged, plus 1 for our own unacknowledged FIN. */
  readonly sendQueueBytes: number;
  /** `tcpi_notsent_bytes`: the part of Send-Q that was never put on the wire. */
  readonly notSentBytes: number;
  /** `tcpi_bytes_acked`, raw: counts our SYN, and our FIN once acknowledged. */
  readonly bytesAcked: number;
  /** `tcpi_unacked`: segments in flight; 0 after death, so never proof of delivery. */
  readonly unackedSegments: number;
  /** `tcpi_snd_mss`. */
  readonly sendMssBytes: number;
  /** `tcpi_snd_wnd`; undefined before Linux 5.4. */
  readonly sendWindowBytes: number | undefined;
  /** `tcpi_rwnd_limited`: time spent limited by the peer's window. */
  readonly windowLimitedUs: number;
  /** `tcpi_rtt`, smoothed. */
  readonly rttUs: number;
  /** `tcpi_last_ack_recv`: since any acknowledgement arrived, by the kernel's clock. */
  readonly lastAckMs: number;
  /** `tcpi_probes`: unanswered zero-window or keepalive probes. */
  readonly probes: number;
  /** `tcpi_retransmits`: of the oldest segment, since the last progress. */
  readonly retransmits: number;
  /** `tcpi_total_retrans`: segments retransmitted in this connection's life. */
  readonly totalRetransmits: number;
  /** `POLLHUP`: with {@linkcode SocketSample.state} 7 the durable mark of death. */
  readonly hangup: boolean;
  /**
   * How far the peer's program has read, for certain, on the scale of
   * {@linkcode SocketSample.bytesAcked}; it never falls, and what nobody will read any more is
   * never in it.
   *
   * @default {undefined} nobody can tell
   */
  readonly readBytes?: number;
}

/**
 * `tcpi_state` by name; include/net/tcp_states.h.
 *
 * @category Dialer
 */
export const TcpState = {
  ESTABLISHED: 1,
  SYN_SENT: 2,
  SYN_RECV: 3,
  FIN_WAIT1: 4,
  FIN_WAIT2: 5,
  TIME_WAIT: 6,
  CLOSE: 7,
  CLOSE_WAIT: 8,
  LAST_ACK: 9,
  LISTEN: 10,
  CLOSING: 11,
} as const;

/**
 * A cause on this host, found by asking the kernel for its route and link.
 *
 * @category Status
 */
export interface LocalFault {
  /**
   * - `"no-route"`: none, or one of type unreachable, prohibit or blackhole
   * - `"address-gone"`: the connection's local address was removed
   * - `"link-down"`: the interface is administratively down
   * - `"carrier-lost"`: no cable, or the other end is off
   * - `"unreadable"`: the kernel's counters cannot be read or contradict each other
   */
  readonly kind: "no-route" | "address-gone" | "link-down" | "carrier-lost" | "unreadable";
  /** The interface, where known. */
  readonly device: string | undefined;
  /** The fault in words, for example `"eth0 has lost its carrier"`. */
  readonly words: string;
}

/**
 * What a connection over TLS has agreed upon.
 *
 * @category Status
 */
export interface TlsSession {
  /** `"TLSv1.3"` or `"TLSv1.2"`. */
  readonly version: string;
  /** `"TLS_AES_256_GCM_SHA384"`, by the names of IANA. */
  readonly cipherSuite: string;
  /** When the first certificate of the server's chain expires, in milliseconds since 1970. */
  readonly serverCertificateExpiresAtMs: number;
  /** The same of our own; undefined where we have none. */
  readonly clientCertificateExpiresAtMs: number | undefined;
}

/**
 * What came of the packets that a connection was given.
 *
 * @category Dialer
 */
export interface WireOutcome {
  /** Whether any was confirmed. */
  readonly confirmedAny: boolean;
  /** How many were not, and are sent again. */
  readonly unconfirmedPackets: number;
  /**
   * Whether this side has ended it for a reason of its own, which says nothing of the server.
   *
   * @default {false}
   */
  readonly endedHere?: boolean;
  /**
   * Whether the server is known to end a connection once it has all, as `onPeerFin` says with
   * `"confirm"`: that it does so soon says nothing against it.
   *
   * @default {false}
   */
  readonly endIsUsual?: boolean;
}

/**
 * One established connection. Every method but read and write is synchronous.
 *
 * @category Dialer
 */
export interface Wire {
  /** `"192.0.2.1:50123"`; `"unnamed"` over a Unix socket. */
  readonly localAddress: string;
  /** `"192.0.2.7:4000"`, `"unix:/run/app.sock"`. */
  readonly remoteAddress: string;
  /** What TLS has agreed upon; left out where none is spoken. */
  readonly tls?: TlsSession;
  /**
   * What has drained is held for at least this long, also where `holdMs` is shorter: a peer
   * may still refuse us. May become 0 while the connection lives, never more.
   *
   * @default {0}
   */
  readonly minHoldMs?: number;
  /**
   * Hands bytes to the kernel. A failure is final: the connection is given up, also where TCP
   * below it still lives.
   *
   * @returns How many were taken; none at all is a failure, too.
   * @throws {WireError}
   */
  write(bytes: Uint8Array): Promise<number>;
  /**
   * Reads what the peer sent.
   *
   * @returns How many bytes, or `null` when there will be no more: the peer's
   *   FIN, or a death whose error somebody else was told.
   * @throws {WireError}
   */
  read(buffer: Uint8Array): Promise<number | null>;
  /**
   * Reads the kernel's counters, Send-Q last: an acknowledgement that comes in between can only
   * make it the smaller one. Valid until `abort` or `close`, also once the connection has died.
   *
   * @throws {KernelCallError} A reading failed; nothing may be concluded.
   */
  sample(): SocketSample;
  /**
   * `getsockopt(SO_ERROR)`: the pending error's name, or `undefined`; nobody else gets it then.
   */
  takeSocketError(): string | undefined;
  /**
   * While on, asks the peer's kernel for a sign of life once a second whenever nothing is
   * under way, of which `lastAckMs` and `probes` tell; off, as the socket options say. Harmless
   * on a dead connection.
   *
   * @throws {KernelCallError} The kernel refuses it.
   */
  askPeer(asking: boolean): void;
  /** Asks this host's own routes, addresses and links; `undefined`: no fault found. */
  localFault(): LocalFault | undefined;
  /** Notes, while the peer is heard, by which link of this host it is reached now. */
  noteLink?(): void;
  /**
   * Sends our FIN behind what is queued. Harmless on a dead connection.
   *
   * @throws {KernelCallError} The kernel refuses it.
   */
  shutdownWrite(): void;
  /**
   * Ends the connection at once by a reset, never by a FIN: the kernel drops its queue, so
   * nothing old can arrive beside the replay, and the peer cannot take it for an orderly end. A
   * Unix socket knows none: what lies in the peer's buffer stays there. Idempotent.
   *
   * @throws {KernelCallError} The kernel refuses the reset; the descriptors are given back.
   */
  abort(): void;
  /**
   * Gives the descriptors back where a reset would have nothing to drop: after an orderly
   * end, or with everything acknowledged. Without a FIN before it, whoever had the connection
   * has given it up. Idempotent.
   */
  close(): void;
  /**
   * Told what came of the packets, just before the end of a connection whose session was open:
   * a dialer that chooses among servers learns from it. Who wraps a wire passes it on.
   */
  concluded?(outcome: WireOutcome): void;
}

/**
 * A choice among several servers, by a dialer each of whose attempts goes to one of them.
 *
 * @category Dialer
 */
export interface ServerChoice {
  /**
   * How many attempts and connections in a row came to nothing of the server that the next
   * attempt goes to.
   */
  failuresOfNext(): number;
  /**
   * Told that the server of the last attempt has refused us, or a packet: meanwhile others are
   * asked.
   *
   * @param pauseMs How long it is not asked again, in milliseconds, after so many refusals of it
   *   in a row before this one.
   * @returns In how many milliseconds there is a server that may be asked; 0: there is one.
   */
  refused(pauseMs: (refusals: number) => number): number;
}

/**
 * Makes connections.
 *
 * @category Dialer
 */
export interface Dialer {
  /** Where to, for people: `"tcp://legacy:4000"`, `"unix:/run/app.sock"`. */
  readonly remote: string;
  /**
   * Whether the other side connects to us: then an attempt takes as long as it takes, and is no
   * failure while nobody is there.
   *
   * @default {false}
   */
  readonly waits?: boolean;
  /** Who has connected last, and may not. */
  readonly turnedAway?: string | undefined;
  /**
   * How it chooses, where it has several servers.
   *
   * @default {undefined} there is one
   */
  readonly choice?: ServerChoice;
  /**
   * Nobody shall connect to us until the next attempt: whoever waits is closed, and an attempt
   * that is under way fails. Left out where nobody connects to us.
   */
  rest?(): void;
  /** Whoever connects is waited for again as before {@linkcode Dialer.rest}, also without an attempt. */
  resume?(): void;
  /**
   * Makes one attempt and tunes the socket.
   *
   * @param signal Ends the attempt; nothing of it is left behind.
   * @param onLookedUp Called once, as soon as the name has an address: what comes after it is
   *   the server's time, what came before the nameserver's. At once where there is nothing to
   *   look up, never once the attempt has ended.
   * @param onHandshake Called once the connection stands, where more has to be agreed upon, as
   *   with TLS: the dialer itself ends that within so many milliseconds.
   * @throws {WireError} The attempt failed.
   * @throws {SocketOptionError} The kernel refused an option that it has never taken; trying
   *   again will not help.
   */
  dial(
    signal: AbortSignal,
    onLookedUp?: () => void,
    onHandshake?: (withinMs: number) => void,
  ): Promise<Wire>;
}
