/** How a sender behaves: its options, their defaults, and what is out of range. */

import { OptionError } from "../base/errors.ts";
import {
  DELIVERY_OPTIONS,
  PACE_OPTIONS,
  QUEUE_OPTIONS,
  SOCKET_OPTIONS,
} from "../base/option_table.ts";
import { checkFields, resolveOptions } from "../base/options.ts";
import type { Clock, Dialer, Logger, Random } from "../base/ports.ts";
import { parseRemote, type Remote, withStandbys } from "../base/remote.ts";
import type { ViaOptions } from "../base/via.ts";
import type { SupervisorLimits } from "../delivery/supervisor.ts";
import { type SocketOptions, validateSocketOptions } from "../kernel/socket_options.ts";
import { checkQueueOptions, type QueueOptions } from "../queue/options.ts";
import { OutboundQueue, sendingSideOf } from "../queue/queue.ts";
import type { Needs } from "../permissions/permissions.ts";
import { type AnswerConfirmation, type AnswerPlan, answerPlanOf } from "../session/answers.ts";
import { planOf, type Session } from "../session/session.ts";
import type { Transform } from "../session/transform.ts";
import type { TlsSource } from "../tls/options.ts";
import { wayNeeds } from "./way.ts";

/**
 * How to open a `Sender`; every field but the first ones has a default.
 *
 * @category Delivery
 */
export interface SenderOptions {
  /**
   * The queue: one that is open already, or a path, which is opened with
   * {@linkcode SenderOptions.queueOptions} and closed with the sender.
   */
  readonly queue: string | OutboundQueue;
  /** Options for a queue given as a path; refused beside one that is open. */
  readonly queueOptions?: QueueOptions;
  /**
   * The server: `"tcp://host:port"`, `"tls://host:port"`, `"unix:path"` for one on this host,
   * or its parts. `"listen://host:port?from=192.0.2.7"` is for a server that connects to us:
   * we listen there, for those addresses alone, and wait; `connect` is `"always"` then unless
   * given. A list, or URLs with commas between them, are several servers in order of
   * preference: where one cannot be reached, refuses, stalls or is dead, the next connection
   * goes to another, and begins with the first packet that was not confirmed.
   */
  readonly remote: RemoteOption;
  /**
   * The proxy that connections go through: `"socks5://host:port"`, `"http://host:port"` for
   * CONNECT, or with more about it. It looks the server's name up. Its kernel is the one
   * that acknowledges: what is sent while the server's host is gone without a word is lost,
   * unless the server's program confirms, or `responseTimeoutMs` is set.
   *
   * @default {undefined} none
   */
  readonly via?: string | ViaOptions;
  /**
   * The address of this host that connections come from: `"192.0.2.1"`, `"2001:db8::1"`. With
   * a port behind it, as in `"192.0.2.1:5000"` and `"[2001:db8::1]:5000"`, all connections have
   * that one: where the server's TCP has no timestamps, the kernel keeps it for a minute after
   * an orderly end. Unless given it is the address that the route has, and any port.
   */
  readonly source?: string;
  /** Socket options; each has its default. */
  readonly socket?: SocketOptions;
  /**
   * How TLS is spoken, for a `tls://` remote, or a function that gives it for each
   * connection, so that certificates can be renewed.
   */
  readonly tls?: TlsSource;
  /**
   * The path of the C library, as granted by `--allow-ffi=PATH`, where it is none of the paths
   * that distributions have (NixOS, Guix): `ldd "$(command -v deno)"` shows it. A process has
   * one: the first that was loaded stays.
   *
   * @default {undefined} one of the known paths
   */
  readonly libc?: string;
  /**
   * The path of OpenSSL's libssl, version 3, for {@linkcode SenderOptions.confirm} `"reader"` over
   * `tls://`; as {@linkcode SenderOptions.libc}.
   *
   * @default {undefined} one of the known paths
   */
  readonly libssl?: string;
  /**
   * How long a drained packet stays on disk, in milliseconds; where the connection ends
   * uncleanly meanwhile, it is sent again. Longer: more duplicates after a reset. Shorter:
   * more loss when a server dies with unread bytes.
   *
   * @default {1000} or a second more than `responseTimeoutMs`
   */
  readonly holdMs?: number;
  /**
   * With bytes outstanding, this long without any acknowledgement, or twice the round-trip time
   * where that is longer, means that the path is dead; in milliseconds. Below 2000 lossy paths
   * give false alarms, which cost a reconnect and duplicates.
   *
   * @default {3000}
   */
  readonly stallTimeoutMs?: number;
  /**
   * How long a peer that is alive may keep its window closed before the connection is given
   * up, in milliseconds.
   *
   * @default {300000}
   */
  readonly peerStallTimeoutMs?: number;
  /**
   * For a server that always responds to what it gets: so many milliseconds after bytes were
   * sent without a single byte of response, the connection is given up, and what is not
   * confirmed is sent again. Which packet a response belongs to is not looked at.
   * {@linkcode SenderOptions.holdMs} must be longer, for a packet is confirmed by then.
   *
   * @default {Infinity}
   */
  readonly responseTimeoutMs?: number;
  /**
   * Bytes that may be sent and not acknowledged, or two packets where these are more: so much
   * goes out a round trip, and so much is sent twice after a dead path, beside what is held.
   *
   * @default {262144}
   */
  readonly maxInFlightBytes?: number;
  /**
   * The most packets a second, repeated ones included, in bursts of at most 50 ms' worth.
   *
   * @default {Infinity}
   */
  readonly maxPacketsPerSecond?: number;
  /**
   * The most bytes a second, in bursts of at most 50 ms' worth or one packet.
   *
   * @default {Infinity}
   */
  readonly maxBytesPerSecond?: number;
  /**
   * The same for packets that were waiting when a connection was made, so that a recovery does
   * not flatten the server; what is enqueued meanwhile waits behind them. Beyond
   * `maxPacketsPerSecond` it changes nothing.
   *
   * @default {Infinity}
   */
  readonly backlogPacketsPerSecond?: number;
  /**
   * The same in bytes.
   *
   * @default {Infinity}
   */
  readonly backlogBytesPerSecond?: number;
  /**
   * In how many connections that broke a packet may have been under way before it becomes a
   * dead letter, so that one which kills the server each time does not block the others for
   * ever; 2 or more. From the second break in a row on, half as many packets are sent after
   * each break, and only one that was alone is given up. While nothing is confirmed in between,
   * each next packet takes twice as many, so that a server that ends every connection does not
   * cost the whole queue. What breaks through a fault of this host does not count. Many
   * packets in flight and a bad path make recovery slower.
   *
   * @default {Infinity}
   */
  readonly maxAttempts?: number;
  /**
   * How long one connection attempt may take, in milliseconds.
   *
   * @default {1000}
   */
  readonly connectTimeoutMs?: number;
  /**
   * The same for every fourth attempt in a row, so that a slow path connects, too.
   *
   * @default {5000}
   */
  readonly slowConnectTimeoutMs?: number;
  /**
   * How long the look-up of the remote's name may take, in milliseconds. A name server that does
   * not answer costs the C library 5 s before it asks the next.
   *
   * @default {20000}
   */
  readonly lookUpTimeoutMs?: number;
  /**
   * The first ceiling of the pause between attempts, in milliseconds; it doubles up to
   * {@linkcode SenderOptions.backoffCapMs}, and chance picks below it.
   *
   * @default {100}
   */
  readonly backoffFirstMs?: number;
  /**
   * The highest ceiling. Delivery resumes about this long after a heal; a fleet of senders to
   * one server raises it.
   *
   * @default {1000}
   */
  readonly backoffCapMs?: number;
  /**
   * `"on-demand"` connects when there is something to send, `"always"` keeps a connection up, for
   * servers that speak unasked.
   *
   * @default {"on-demand"}
   */
  readonly connect?: "on-demand" | "always";
  /**
   * With `listen://`, what becomes of a further connection while one is in use: it takes its
   * place, and what was not confirmed is sent again (`"replace"`), or it is closed (`"refuse"`).
   *
   * @default {"replace"}
   */
  readonly secondConnection?: "replace" | "refuse";
  /**
   * With several remotes: once a preferred server could be reached for so long without a break,
   * in milliseconds, the connection to another is given up for it, when nothing is under way, at
   * the latest after the same time again. It is tried once a second by a connection that carries
   * nothing. After each return that came to nothing it has to be there twice as long, up to an
   * hour. `Infinity`: the next connection goes to it.
   *
   * @default {Infinity}
   */
  readonly returnAfterMs?: number;
  /**
   * What the server's FIN means. By itself it confirms nothing: a program that was killed
   * sends one, too, and so does a proxy that cannot reach its server.
   *
   * - `"reconnect"`: what was not confirmed before the FIN is sent again over a new
   *   connection; costs duplicates of up to `holdMs` of traffic each time
   * - `"confirm"`: for servers that are known to close after each message: what they
   *   acknowledged is confirmed once `holdMs` has passed without a reset
   * - `"keep-sending"`: for servers that are known to close their side and read on
   *
   * @default {"reconnect"}
   */
  readonly onPeerFin?: "reconnect" | "keep-sending" | "confirm";
  /**
   * So many bytes of what the server sent wait to be read; newer ones are discarded and
   * counted, so that they never fill the window.
   *
   * @default {1048576}
   */
  readonly receivedBufferBytes?: number;
  /**
   * What the protocol wants beside the packets: a login, heartbeats, a goodbye, packets one by
   * one.
   *
   * @default {undefined} nothing
   */
  readonly session?: Session;
  /**
   * Makes a packet's bytes on the wire, when it goes out: sequence numbers, checksums, times.
   *
   * @default {undefined} what is stored is what goes on the wire
   */
  readonly transform?: Transform;
  /**
   * What confirms a packet, so that it may be removed.
   *
   * - `"kernel"`: the server's kernel has acknowledged it, and the server was then seen alive
   *   and reading for `holdMs`
   * - `"reader"`: the server's program has read it, as far as its TLS library (`tls://`) or
   *   its socket (`unix:`) goes
   * - an object: the server's program has answered it, as the object says
   *
   * Beside the last two `holdMs` means nothing, and `onPeerFin` stays `"reconnect"`.
   *
   * @default {"kernel"} or `"reader"` for a `unix:` remote
   */
  readonly confirm?: "kernel" | "reader" | AnswerConfirmation;
  /**
   * Whether the queue is closed with the sender, also where that cannot be opened.
   *
   * @default {undefined} one given as a path is, one that was open before is not
   */
  readonly closesQueue?: boolean;
  /**
   * Gives up while the right to send is waited for, which another sender has.
   *
   * @default {undefined} it is waited for as long as it takes
   */
  readonly signal?: AbortSignal;
  /** Takes log lines: `console`, an `@std/log` logger, LogTape. Silent by default. */
  readonly logger?: Logger;
  /** Time, for tests. */
  readonly clock?: Clock;
  /** Chance, for tests. */
  readonly random?: Random;
  /** Another way to connect; replaces remote's dialing, `via`, `source`, `socket` and `tls`. */
  readonly dialer?: Dialer;
}

/**
 * One server, or several in order of preference.
 *
 * @category Delivery
 */
export type RemoteOption = string | Remote | readonly (string | Remote)[];

/** Those that no table has. */
const OTHERS: readonly (keyof SenderOptions)[] = [
  ...["queue", "queueOptions", "remote", "via", "socket", "tls", "libc", "libssl"] as const,
  ...["session", "transform", "confirm", "closesQueue", "signal"] as const,
  ...["logger", "clock", "random", "dialer"] as const,
];

export interface SenderLimits extends SupervisorLimits {
  readonly receivedBufferBytes: number;
}

/** @throws {OptionError} A value is out of range, or there is no such option. */
export function limitsOf(options: SenderOptions): SenderLimits {
  // Options in JSON may name what they are checked against.
  const { $schema: _, ...given } = options as SenderOptions & { $schema?: string };
  checkFields("", given, [DELIVERY_OPTIONS, PACE_OPTIONS, ...OTHERS], {
    queueOptions: QUEUE_OPTIONS,
    socket: SOCKET_OPTIONS,
  });
  if (typeof options.queue !== "string" && options.queueOptions !== undefined) {
    throw new OptionError(
      "queueOptions",
      options.queueOptions,
      "is for a queue given as a path; this one is open, and its options are those that it was " +
        "opened with: give them there, or give the path",
    );
  }
  if (options.queueOptions !== undefined) checkQueueOptions(options.queueOptions);
  const delivery = resolveOptions(DELIVERY_OPTIONS, options);
  const { backlogPacketsPerSecond, backlogBytesPerSecond, ...pace } = resolveOptions(
    PACE_OPTIONS,
    options,
  );
  const { responseTimeoutMs } = delivery;
  const holdMs = options.holdMs === undefined && responseTimeoutMs !== Infinity
    ? responseTimeoutMs + 1000
    : delivery.holdMs;
  if (responseTimeoutMs !== Infinity && holdMs <= responseTimeoutMs) {
    throw new OptionError("holdMs", holdMs, "must be more than responseTimeoutMs");
  }
  // What is wrong with the way is said before anything is opened.
  if (options.dialer === undefined) wayNeeds(remoteOf(options), options);
  const { keepAlive } = validateSocketOptions(options.socket);
  const { session, transform, dialer } = options;
  if (dialer !== undefined) {
    const { dial, remote } = dialer ?? {};
    if (typeof dial !== "function" || typeof remote !== "string") {
      throw new OptionError("dialer", dialer, "must have a dial(), and a remote as text");
    }
  }
  if (transform !== undefined && typeof transform !== "function") {
    throw new OptionError("transform", transform, "must be a function");
  }
  return {
    ...delivery,
    ...pace,
    holdMs,
    // Who comes to us is expected at any time, and its end has to be noticed.
    connect: options.connect ?? (remoteOf(options).listen ? "always" : delivery.connect),
    backlogPace: {
      maxPacketsPerSecond: backlogPacketsPerSecond,
      maxBytesPerSecond: backlogBytesPerSecond,
    },
    slowConnectTimeoutMs: Math.max(delivery.connectTimeoutMs, delivery.slowConnectTimeoutMs),
    slowConnectEvery: 4,
    session: session === undefined ? undefined : planOf(session),
    transform,
    ...confirmationOf(options),
    keepAlive: keepAlive === false ? undefined : {
      timeoutMs: keepAlive.idleMs + keepAlive.count * keepAlive.intervalMs,
      probes: keepAlive.count,
    },
  };
}

/** @throws {OptionError} Something is out of range, or means nothing beside what confirms. */
function confirmationOf(
  options: SenderOptions,
): { readonly answers: AnswerPlan | undefined; readonly reads: boolean } {
  const { holdMs, onPeerFin, dialer, libssl } = options;
  const scheme = dialer === undefined ? remoteOf(options).scheme ?? "tcp" : undefined;
  // Over a Unix socket it costs nothing to know what was read, and there is no weaker sign.
  const { confirm = scheme === "unix" ? "reader" : "kernel" } = options;
  if (libssl !== undefined && (confirm !== "reader" || scheme === "unix")) {
    throw new OptionError("libssl", libssl, 'is used by confirm "reader" over tls:// only');
  }
  if (confirm === "kernel") {
    if (scheme !== "unix") return { answers: undefined, reads: false };
    throw new OptionError(
      "confirm",
      confirm,
      "is not for a unix: remote, where reading confirms: leave it out",
    );
  }
  const reads = confirm === "reader";
  const answers = reads ? undefined : answerPlanOf(confirm);
  if (reads && scheme === "tcp") {
    throw new OptionError(
      "confirm",
      confirm,
      "is for a remote that begins with tls:// or unix:, over plain TCP nothing tells what the " +
        "server's program has read",
    );
  }
  const what = reads ? "reading confirms" : "answers confirm";
  if (onPeerFin !== undefined && onPeerFin !== "reconnect") {
    throw new OptionError(
      "onPeerFin",
      onPeerFin,
      `must be reconnect where ${what}: nothing confirms behind the server's FIN`,
    );
  }
  if (holdMs !== undefined) {
    throw new OptionError("holdMs", holdMs, `means nothing where ${what}: leave it out`);
  }
  return { answers, reads };
}

/**
 * Both forms of `Sender.open` as one.
 *
 * @throws {TypeError} The remote is missing.
 */
export function optionsOf(
  first: string | OutboundQueue | SenderOptions,
  remote: RemoteOption | undefined,
  rest: Omit<SenderOptions, "queue" | "remote"> | undefined,
): SenderOptions {
  const isQueue = (given: unknown): given is string | OutboundQueue =>
    typeof given === "string" || given instanceof OutboundQueue;
  const options = isQueue(first) ? { ...rest, queue: first, remote } : first;
  if (!isQueue(options?.queue)) {
    throw new TypeError("Sender.open needs a queue: the path of its file, or an OutboundQueue");
  }
  if (options.remote === undefined) {
    throw new TypeError('Sender.open needs the server as well: "tcp://host:port"');
  }
  return options as SenderOptions;
}

/**
 * The remote in its parts.
 *
 * @throws {TypeError} It is none.
 * @throws {OptionError} There are options of TLS for one without TLS.
 */
export function remoteOf({ remote, tls }: SenderOptions): Remote {
  const parts = withStandbys(
    [remote].flat().map((one) => typeof one === "string" ? parseRemote(one) : checkRemote(one)),
  );
  if (tls !== undefined && parts.scheme !== "tls") {
    throw new OptionError("tls", null, "is for a remote that begins with tls://");
  }
  return parts;
}

function checkRemote(remote: Remote): Remote {
  const { scheme = "tcp", hostname, port, path }: Record<string, unknown> = { ...remote };
  const isOne = scheme === "unix"
    ? typeof path === "string"
    : (scheme === "tcp" || scheme === "tls") && typeof hostname === "string" &&
      typeof port === "number";
  if (isOne) return remote;
  throw new TypeError(
    'A remote is "tcp://host:port", "tls://host:port" or "unix:PATH", or an object: ' +
      '{ scheme: "tcp", hostname, port } or { scheme: "unix", path }',
  );
}

/** What a sender needs permissions for. */
export function needsOf(options: SenderOptions): Needs {
  const { queue, dialer, libc, libssl, confirm } = options;
  const lock = typeof queue === "string" ? undefined : sendingSideOf(queue).lockPath;
  const locks = lock === undefined ? [] : [lock];
  return {
    // Another way to connect has needs of its own.
    ...(dialer === undefined
      ? {
        ...wayNeeds(remoteOf(options), options),
        kernel: true,
        libc,
        libssl: confirm === "reader" && remoteOf(options).scheme === "tls" && (libssl ?? true),
      }
      : {}),
    queues: typeof queue === "string" ? [queue] : [],
    files: locks,
    outputs: locks,
  };
}
