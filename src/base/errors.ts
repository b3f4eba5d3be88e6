/**
 * Every error a caller may want to catch: docs/ERRORS.md. Each carries its facts as fields, and
 * its message says what to do next.
 *
 * Any other bad argument than an option is a {@linkcode RangeError} or {@linkcode TypeError}, a
 * missing permission Deno's own `NotCapable`, with the flag to add.
 */

/**
 * An option does not take the value that was given.
 *
 * @category Errors
 */
export class OptionError extends RangeError {
  /** The class by name. */
  override readonly name = "OptionError";
  /** The option, for example `"holdMs"` or `"keepAlive.idleMs"`. */
  readonly option: string;
  /** The value that it does not take. */
  readonly value: unknown;
  /** What it takes, in words, for example `"must be from 0 to 2073600000"`. */
  readonly rule: string;

  /** Makes it of its fields. */
  constructor(option: string, value: unknown, rule: string) {
    const shown = typeof value === "string" ? JSON.stringify(value) : value;
    // An object may have no text, and says little with one.
    super(`${option} ${rule}${typeof value === "object" ? "" : `, got ${String(shown)}`}`);
    this.option = option;
    this.value = value;
    this.rule = rule;
  }
}

/**
 * The machine cannot run the kernel layer: not Linux, or no libc found.
 *
 * @category Errors
 */
export class UnsupportedPlatformError extends Error {
  /** The class by name. */
  override readonly name = "UnsupportedPlatformError";
}

/**
 * A libc call that must not fail did fail; its output was not used.
 *
 * @category Errors
 */
export class KernelCallError extends Error {
  /** The class by name. */
  override readonly name = "KernelCallError";
  /** The call, for example `"ioctl(SIOCOUTQ)"`. */
  readonly call: string;

  /** Makes it; `message` says what it means and what to do. */
  constructor(call: string, message: string) {
    super(message);
    this.call = call;
  }
}

/**
 * The kernel refused a socket option.
 *
 * @category Errors
 */
export class SocketOptionError extends Error {
  /** The class by name. */
  override readonly name = "SocketOptionError";
  /** The option as named in `SocketOptions`, for example `"congestion"`. */
  readonly option: string;
  /** The value that was refused. */
  readonly value: unknown;

  /** Makes it; `advice` says what to do about it. */
  constructor(option: string, value: unknown, advice: string) {
    super(`The kernel refused socket option ${option} = ${String(value)}: ${advice}`);
    this.option = option;
    this.value = value;
  }
}

/**
 * Why a connection attempt or a connection failed, by the kernel's own name.
 *
 * @category Errors
 */
export class WireError extends Error {
  /** The class by name. */
  override readonly name = "WireError";
  /** `"ECONNRESET"`, `"ETIMEDOUT"`, …; `"UNKNOWN"` when Deno did not say. */
  readonly code: string;

  /** Makes it; `message` is the failure in words, `options.cause` the error underneath. */
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/**
 * Nobody can connect to us there, for a reason that is not that somebody else listens there, which
 * is a `Deno.errors.AddrInUse`.
 *
 * @category Errors
 */
export class ListenError extends Error {
  /** The class by name. */
  override readonly name = "ListenError";
  /** Where it was to be listened: `tcp://192.0.2.7:4000`, `unix:/run/app.sock`. */
  readonly address: string;

  /** Makes it; `reason` says why and what to do, `options.cause` is the error underneath. */
  constructor(address: string, reason: string, options?: ErrorOptions) {
    super(`cannot listen at ${address}: ${reason}.`, options);
    this.address = address;
  }
}

/**
 * The server does not want this session: it answered what is a refusal, something else
 * than what was expected, or closed the connection in the place of an answer. A
 * session's own function throws it to say so, mostly by `SessionStream.refuse`.
 *
 * @category Errors
 */
export class SessionRefusedError extends Error {
  /** The class by name. */
  override readonly name = "SessionRefusedError";
  /** What the server said, escaped and cut; undefined: nothing. */
  readonly said: string | undefined;

  /** Makes it; `message` says why. */
  constructor(message: string, said?: string) {
    super(message);
    this.said = said;
  }
}

/**
 * The server has refused a packet, and `onRefused` is `"stop"`. The packet is still the
 * first of the queue.
 *
 * @category Errors
 */
export class PacketRefusedError extends Error {
  /** The class by name. */
  override readonly name = "PacketRefusedError";
  /** The packet's id. */
  readonly id: number;
  /** What the server said, escaped and cut. */
  readonly said: string;

  /** Makes it of its fields. */
  constructor(id: number, said: string) {
    super(
      `the server refused packet ${id}: ${said}. It is still the first in the queue: look at it ` +
        `(sendq show), remove it (sendq remove) or mend the server, and start again`,
    );
    this.id = id;
    this.said = said;
  }
}

/**
 * The queue is at one of its limits and `overflow` is `"reject"`; or it is `"drop-oldest"`, and
 * the packet waited to be stored until newer ones took its place.
 *
 * @category Errors
 */
export class QueueFullError extends Error {
  /** The class by name. */
  override readonly name = "QueueFullError";
  /** The limit that was met. */
  readonly limit: "maxPackets" | "maxBytes";
  /** That limit's value. */
  readonly limitValue: number;

  /** Makes it; `advice` says what to do next. */
  constructor(
    limit: "maxPackets" | "maxBytes",
    limitValue: number,
    advice = `Wait until the remote has confirmed some packets, raise ${limit}, ` +
      `or choose overflow "wait" or "drop-oldest".`,
  ) {
    super(`The queue is full: ${limit} = ${limitValue}. Nothing was stored. ${advice}`);
    this.limit = limit;
    this.limitValue = limitValue;
  }
}

/**
 * A packet is empty or larger than `maxPacketBytes`.
 *
 * @category Errors
 */
export class PacketSizeError extends RangeError {
  /** The class by name. */
  override readonly name = "PacketSizeError";
  /** The packet's size. */
  readonly packetBytes: number;
  /** The limit it was held against. */
  readonly maxPacketBytes: number;

  /** Makes it of its fields. */
  constructor(packetBytes: number, maxPacketBytes: number) {
    super(
      packetBytes === 0
        ? "A packet must hold at least 1 byte: an empty one leaves no trace on the wire that could be confirmed."
        : `The packet has ${packetBytes} bytes, maxPacketBytes is ${maxPacketBytes}. ` +
          `Nothing was stored. Split the packet or raise maxPacketBytes.`,
    );
    this.packetBytes = packetBytes;
    this.maxPacketBytes = maxPacketBytes;
  }
}

/**
 * Another sender holds this queue.
 *
 * @category Errors
 */
export class QueueLockedError extends Error {
  /** The class by name. */
  override readonly name = "QueueLockedError";
  /** The queue's path. */
  readonly path: string;
  /** The process that holds it, where its lock file says so. */
  readonly holderPid: number | undefined;
  /** What that process has: the queue, or the whole spool in which it is. */
  readonly of: "queue" | "spool";

  /** Makes it; `isOwn` says whether the process is this one. */
  constructor(
    path: string,
    holderPid: number | undefined,
    of: "queue" | "spool" = "queue",
    isOwn: boolean = false,
  ) {
    const process = holderPid === undefined ? "" : ` (process ${holderPid})`;
    const holder = isOwn ? " in this process" : process;
    super(
      of === "queue"
        ? `Queue ${path} already has a sender${holder}. One queue has one sender; stop the ` +
          "other one, or enqueue into it without sending."
        : `Another process${holder} sends from the spool of ${path}. One process at a time does: ` +
          "stop it, or send from all queues of the spool in one process (sendq run).",
    );
    this.path = path;
    this.holderPid = holderPid;
    this.of = of;
  }
}

/**
 * Another sender has taken this queue over, where the right to send has to be renewed: this one
 * sends and removes nothing any more. Start it again: it waits for its turn.
 *
 * @category Errors
 */
export class FencedError extends Error {
  /** The class by name. */
  override readonly name = "FencedError";
}

/**
 * The queue was closed before it could be known whether packets are stored: the database had been
 * asked to and has not answered. Who stores them again may store them twice.
 *
 * @category Errors
 */
export class OutcomeUnknownError extends Error {
  /** The class by name. */
  override readonly name = "OutcomeUnknownError";
}

/**
 * The queue's file cannot be used; it was left as it is.
 *
 * @category Errors
 */
export class QueueFileError extends Error {
  /** The class by name. */
  override readonly name = "QueueFileError";
  /**
   * What is wrong:
   * - `"not-a-queue"`: some other file, or another program's database
   * - `"newer-version"`: written by a newer sendq
   * - `"corrupt"`: a page cannot be read, what the file says contradicts itself, or it has
   *   tables or triggers that sendq has not made; nothing is removed on the strength of it
   * - `"disk-full"`: no room; the queue works again once there is
   * - `"read-only"`: file or directory cannot be written
   * - `"busy"`: another process kept the file locked too long
   * - `"io"`: the disk reported an error
   * - `"misplaced"`: its path leads to another file than the one in use, or to none, or
   *   the file has a second name
   */
  readonly reason: QueueFileReason;
  /** The queue's path. */
  readonly path: string;
  /**
   * What the file holds of what was to be stored or removed:
   * - `"nothing-stored"`: nothing; the file is as it was before
   * - `"unknown"`: the disk reported an error at the very end, or whoever wrote it died. The file
   *   may hold it, and then it is sent: who stores the packet again may store it twice.
   */
  readonly outcome: CommitOutcome;

  /**
   * Makes it; `message` is the reason in words, and what to do next, `options.cause` SQLite's
   * error, `options.outcome` `"nothing-stored"` unless given.
   */
  constructor(
    reason: QueueFileReason,
    path: string,
    message: string,
    options: ErrorOptions & { readonly outcome?: CommitOutcome } = {},
  ) {
    const { outcome = "nothing-stored", ...rest } = options;
    super(message, rest);
    this.reason = reason;
    this.path = path;
    this.outcome = outcome;
  }
}

/**
 * What became of a commit that failed; see {@linkcode QueueFileError.outcome}.
 *
 * @category Errors
 */
export type CommitOutcome = "nothing-stored" | "unknown";

/** Whether what was to be stored or removed may have been, although somebody is told of an error. */
export function isOutcomeUnknown(error: unknown): boolean {
  return error instanceof OutcomeUnknownError ||
    (error instanceof QueueFileError && error.outcome === "unknown");
}

/**
 * What is wrong with a queue's file; see {@linkcode QueueFileError.reason}.
 *
 * @category Errors
 */
export type QueueFileReason =
  | "not-a-queue"
  | "newer-version"
  | "corrupt"
  | "disk-full"
  | "read-only"
  | "busy"
  | "io"
  | "misplaced";

/**
 * The queue, sender or connection was closed before the operation could be done.
 *
 * @category Errors
 */
export class ClosedError extends Error {
  /** The class by name. */
  override readonly name = "ClosedError";
}

/**
 * What went wrong, in words, whatever was thrown.
 *
 * @category Errors
 */
export function messageOf(error: unknown): string {
  try {
    return error instanceof Error ? `${error.message}` : String(error);
  } catch {
    return "an object without words was thrown";
  }
}

/** A {@linkcode WireError} whose words end with its code. */
export function wireError(code: string, words: string, cause?: unknown): WireError {
  return new WireError(code, `${words} (${code})`, cause === undefined ? {} : { cause });
}

/** `12.3 s` */
export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** `12 packets`, `1 packet` */
export function inPackets(count: number): string {
  return count === 1 ? "1 packet" : `${count} packets`;
}

/** `"the remote refused"` as `"The remote refused."` */
export function sentence(words: string): string {
  const text = `${words.charAt(0).toUpperCase()}${words.slice(1)}`;
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
