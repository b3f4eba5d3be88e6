/**
 * Every option of the library, once: its default and its bounds, its flag and the line that the
 * help and docs/OPTIONS.md have for it. What it means and costs is said at the interfaces. Those of
 * subpaths: `subpath_option_table.ts`.
 */

import { choice, count, duration, NO_TIMER, type OptionTable, size } from "./options.ts";

const INT_MAX = 2 ** 31 - 1;
const KEEP_ALIVE = { min: 1, max: 32_767_000, fraction: false } as const;

/** `QueueOptions` */
export const QUEUE_OPTIONS = {
  maxPackets: count("--max-packets <count>", "most packets in the queue", { default: 10_000_000 }),
  maxBytes: size("--max-bytes <size>", "most bytes in the queue", { default: 1024 ** 3 }),
  maxDeadPackets: count("--max-dead-packets <count>", "most dead letters kept; the oldest go", {
    min: 0,
    default: 100_000,
  }),
  maxDeadBytes: size("--max-dead-bytes <size>", "most bytes of dead letters kept", {
    min: 0,
    default: 256 * 1024 ** 2,
  }),
  maxPacketBytes: size("--max-packet-bytes <size>", "largest packet on the wire", {
    // SQLite refuses a BLOB beyond 10^9 bytes (SQLITE_MAX_LENGTH).
    max: 512 * 1024 ** 2,
    default: 16 * 1024 ** 2,
  }),
  overflow: choice(
    "--overflow <what>",
    "when the queue is full",
    ["wait", "reject", "drop-oldest"],
    "reject",
  ),
  ttlMs: duration("--ttl <time>", "packets not sent by then become dead letters", {
    min: 1,
    fraction: false,
    max: NO_TIMER,
    endless: true,
    default: Infinity,
  }),
  durability: choice(
    "--durability <what>",
    "what stored packets survive",
    ["power-loss", "process-crash"],
    "power-loss",
  ),
  syncIn: choice(
    "--sync-in <place>",
    "who waits for the disk: threads do when it is slow",
    ["auto", "loop", "threads"],
    "auto",
  ),
  commitIntervalMs: duration(
    "--commit-interval <time>",
    "commits begin so far apart at least, and more packets share one",
    { max: 1000, default: 0 },
  ),
  busyTimeoutMs: duration(
    "--busy-timeout <time>",
    "patience while another process writes the queue",
    { fraction: false, default: 10_000 },
  ),
} as const satisfies OptionTable;

/** `SenderOptions`, but for those of pace */
export const DELIVERY_OPTIONS = {
  stallTimeoutMs: duration(
    "--stall-timeout <time>",
    "this long without a sign of the server: path dead",
    { min: 100, default: 3000 },
  ),
  holdMs: duration(
    "--hold <time>",
    "how long an acknowledged packet stays on disk; sent again if the connection breaks in it",
    { default: 1000 },
  ),
  peerStallTimeoutMs: duration(
    "--peer-stall-timeout <time>",
    "patience with a server that lives and does not read",
    { min: 100, endless: true, default: 300_000 },
  ),
  responseTimeoutMs: duration(
    "--response-timeout <time>",
    "for a server that always responds: this long without a byte of it",
    { min: 1, endless: true, default: Infinity },
  ),
  maxInFlightBytes: size("--max-in-flight <size>", "most bytes unacknowledged, or two packets", {
    endless: true,
    default: 256 * 1024,
  }),
  maxAttempts: count(
    "--max-attempts <count>",
    "broken connections after which a packet becomes a dead letter",
    {
      min: 2,
      endless: true,
      default: Infinity,
      because: "the first break is mostly the network's",
    },
  ),
  connect: choice("--connect <when>", "when to connect", ["on-demand", "always"], "on-demand"),
  secondConnection: choice(
    "--second-connection <what>",
    "with listen://: a further connection takes the place of the one in use, or is refused",
    ["replace", "refuse"],
    "replace",
  ),
  returnAfterMs: duration(
    "--return-after <time>",
    "with several remotes: go back to a preferred one that could be reached for so long",
    { min: 1000, endless: true, default: Infinity },
  ),
  onPeerFin: choice(
    "--on-peer-fin <what>",
    "what the server's FIN means: confirm is for one that closes after each message",
    ["reconnect", "keep-sending", "confirm"],
    "reconnect",
  ),
  connectTimeoutMs: duration("--connect-timeout <time>", "for one attempt", {
    min: 100,
    default: 1000,
  }),
  slowConnectTimeoutMs: duration("--slow-connect-timeout <time>", "for every fourth attempt", {
    min: 100,
    default: 5000,
  }),
  lookUpTimeoutMs: duration("--look-up-timeout <time>", "for looking the server's name up", {
    min: 100,
    default: 20_000,
  }),
  backoffFirstMs: duration("--backoff-first <time>", "first pause between attempts", {
    default: 100,
  }),
  backoffCapMs: duration("--backoff-cap <time>", "longest pause between attempts", {
    default: 1000,
  }),
  source: {
    type: "text",
    flags: "--source <address>",
    help: "connect from this address of the host; ADDRESS:PORT for a port of its own, too",
  },
  receivedBufferBytes: size(
    undefined,
    "what the server sent and nobody has read; newer bytes are discarded",
    { min: 0, endless: true, default: 1024 ** 2 },
  ),
} as const satisfies OptionTable;

/** `Session` of `SenderOptions` */
export const SESSION_OPTIONS = {
  timeoutMs: duration(
    "--session-timeout <time>",
    "for opening the session on a new connection",
    { min: 100, default: 10_000 },
  ),
  refusedBackoffFirstMs: duration(
    "--refused-backoff-first <time>",
    "first pause after a server has refused the session; half of it at least",
    { min: 100, default: 5000 },
  ),
  refusedBackoffCapMs: duration("--refused-backoff-cap <time>", "longest pause after that", {
    min: 100,
    default: 60_000,
  }),
  separate: {
    type: "switch",
    flags: "--separate",
    help: "a write for each packet, the next once the last is acknowledged",
    default: false,
  },
} as const satisfies OptionTable;

/** `Heartbeat` of `Session` */
export const HEARTBEAT_OPTIONS = {
  idleMs: duration("--heartbeat-idle <time>", "sent when nothing was for so long", {
    min: 10,
    default: 30_000,
  }),
  answerTimeoutMs: duration(
    "--heartbeat-timeout <time>",
    "for the answer, where one is expected; then the connection is given up",
    { min: 10, default: 10_000 },
  ),
} as const satisfies OptionTable;

/** `AnswerConfirmation` of `SenderOptions` */
export const ANSWER_OPTIONS = {
  maxUnanswered: count(
    "--max-unanswered <count>",
    "packets that may wait for an answer; 1 is stop and wait",
    { max: 10_000, default: 1 },
  ),
  answerTimeoutMs: duration(
    "--answer-timeout <time>",
    "for an answer; then the connection is given up, and what is not answered is sent again",
    { min: 10, default: 10_000 },
  ),
  onRefused: choice(
    "--on-refused <what>",
    "what becomes of a packet that the server refuses",
    ["dead-letter", "retry", "stop"],
    "dead-letter",
  ),
  retryFirstMs: duration(
    "--refused-retry-first <time>",
    "with retry, the first pause; half of it at least",
    { min: 100, default: 5000 },
  ),
  retryCapMs: duration("--refused-retry-cap <time>", "the longest pause after that", {
    min: 100,
    default: 60_000,
  }),
} as const satisfies OptionTable;

const RATE = { min: 0, aboveMin: true, fraction: true, endless: true, default: Infinity } as const;

/** `SenderOptions` of pace */
export const PACE_OPTIONS = {
  maxPacketsPerSecond: count("--max-packets-per-second <count>", "most packets that go out", RATE),
  maxBytesPerSecond: size("--max-bytes-per-second <size>", "most bytes that go out", RATE),
  backlogPacketsPerSecond: count(
    "--backlog-packets-per-second <count>",
    "the same for what waited when a connection was made",
    RATE,
  ),
  backlogBytesPerSecond: size("--backlog-bytes-per-second <size>", "the same in bytes", RATE),
} as const satisfies OptionTable;

/** `SocketOptions`, but for `keepAlive`; bounds from tcp(7), socket(7) and ip(7) */
export const SOCKET_OPTIONS = {
  noDelay: {
    type: "switch",
    flags: "--no-nodelay",
    help: "leave Nagle's algorithm on (TCP_NODELAY off)",
    default: true,
  },
  userTimeoutMs: duration("--user-timeout <time>", "TCP_USER_TIMEOUT", {
    fraction: false,
    max: INT_MAX,
    otherwise: "above all others",
  }),
  rtoMaxMs: duration("--rto-max <time>", "TCP_RTO_MAX_MS, from Linux 6.15 on", {
    min: 1000,
    max: 120_000,
    fraction: false,
    default: 1000,
  }),
  sendBufferBytes: size("--send-buffer <size>", "SO_SNDBUF", {
    max: (INT_MAX - 1) / 2, // The kernel doubles it.
    otherwise: "the system's",
  }),
  congestion: {
    type: "name",
    flags: "--congestion <name>",
    help: "congestion control, such as bbr",
    otherwise: "the system's",
  },
  bindToDevice: {
    type: "name",
    flags: "--bind-to-device <name>",
    help: "SO_BINDTODEVICE, such as eth0",
  },
  mark: count("--mark <number>", "SO_MARK; needs CAP_NET_ADMIN or CAP_NET_RAW", {
    min: 0,
    max: 2 ** 32 - 1,
  }),
  tos: count("--tos <number>", "IP_TOS or IPV6_TCLASS, in steps of 4, such as 0x20", {
    min: 0,
    max: 252,
    step: 4,
    because: "its lower two bits belong to ECN",
  }),
} as const satisfies OptionTable;

/** `KeepAliveOptions`; bounds from tcp(7) */
export const KEEP_ALIVE_OPTIONS = {
  idleMs: duration("--keepalive-idle <time>", "idle time before a probe", {
    ...KEEP_ALIVE,
    default: 10_000,
  }),
  intervalMs: duration("--keepalive-interval <time>", "between probes", {
    ...KEEP_ALIVE,
    default: 3000,
  }),
  count: count("--keepalive-count <count>", "probes unanswered: dead", { max: 127, default: 3 }),
} as const satisfies OptionTable;

const TLS_VERSIONS = ["TLSv1.2", "TLSv1.3"] as const;

/** `TlsOptions` */
export const TLS_OPTIONS = {
  ca: {
    type: "text",
    flags: "--tls-ca <file>",
    holds: "certificates in PEM",
    help: "certificates of those who are trusted, in the place of the usual ones",
    otherwise: "those that Deno trusts",
  },
  cert: {
    type: "text",
    flags: "--tls-cert <file>",
    holds: "certificates in PEM",
    help: "our own certificate, its issuers behind it",
  },
  key: {
    type: "text",
    flags: "--tls-key <file>",
    holds: "a private key in PEM",
    help: "the key of our certificate",
  },
  passphrase: {
    type: "text",
    flags: "--tls-passphrase-file <file>",
    holds: "text",
    help: "what decrypts that key",
  },
  serverName: {
    type: "text",
    flags: "--tls-server-name <name>",
    help: "the name that the server's certificate must have",
    otherwise: "the remote's host",
  },
  alpn: {
    type: "texts",
    flags: "--tls-alpn <protocol>",
    holds: "names of protocols",
    help: "an application protocol to offer, the best one first; may be given several times",
  },
  minVersion: choice("--tls-min-version <version>", "oldest version", TLS_VERSIONS, "TLSv1.2"),
  maxVersion: choice("--tls-max-version <version>", "newest version", TLS_VERSIONS, "TLSv1.3"),
  fingerprints: {
    type: "texts",
    flags: "--tls-fingerprint <sha256>",
    holds: "SHA-256 fingerprints",
    help: "the server's certificate, whoever issued it; may be given several times",
  },
  handshakeTimeoutMs: duration("--tls-handshake-timeout <time>", "for the handshake", {
    min: 100,
    default: 10_000,
  }),
  acceptMs: duration(
    "--tls-accept <time>",
    "how long to wait for the server's word that it takes our certificate (TLS 1.3)",
    { default: 1000 },
  ),
} as const satisfies OptionTable;

/** `ViaOptions` */
export const VIA_OPTIONS = {
  url: {
    type: "text",
    flags: "--via <url>",
    help: "connect through this proxy: socks5://HOST:PORT, or http://HOST:PORT for CONNECT",
  },
  credentials: {
    type: "text",
    flags: "--via-credentials-file <file>",
    holds: "USER:PASSWORD",
    help: "what the proxy wants to know",
  },
  handshakeTimeoutMs: duration(
    "--via-handshake-timeout <time>",
    "for the proxy, until it says that the server is connected",
    { min: 100, default: 10_000 },
  ),
} as const satisfies OptionTable;

/** `CloseOptions` of a sender */
export const CLOSE_OPTIONS = {
  deliverTimeoutMs: duration(
    "--deliver-timeout <time>",
    "go on delivering after SIGTERM or SIGINT",
    { endless: true, default: 5000 },
  ),
} as const satisfies OptionTable;

/** `RelayOptions` */
export const RELAY_OPTIONS = {
  replies: choice(
    "--replies <who>",
    "who gets what the server sends; last-client: whose packet was stored last",
    ["discard", "last-client", "all"],
    "discard",
  ),
  replyTimeoutMs: duration(
    "--reply-timeout <time>",
    "a client that has closed its side is kept so long for the next reply",
    { default: 5000 },
  ),
  maxClients: count("--max-clients <count>", "most clients; further ones wait", {
    endless: true,
    default: 256,
  }),
  idleTimeoutMs: duration(
    "--idle-timeout <time>",
    "a client that is silent so long makes room for one that waits",
    { endless: true, default: 60_000 },
  ),
} as const satisfies OptionTable;
