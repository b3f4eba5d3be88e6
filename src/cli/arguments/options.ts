/**
 * The options that commands share: how they are written on the command line,
 * and what they mean to the library.
 *
 * @module
 */

import { type Command, Option } from "commander";
import { PacketSizeError } from "../../base/errors.ts";
import type { Remote } from "../../base/remote.ts";
import { type Framing, type Oversize, OVERSIZES, PacketSplitter } from "../../framing/framing.ts";
import type { KeepAliveOptions, SocketOptions } from "../../kernel/socket_options.ts";
import type { QueueOptions } from "../../queue/options.ts";
import type { SenderOptions } from "../../sender/options.ts";
import { UsageError } from "../terminal/exit_code.ts";
import type { LogLevel } from "../terminal/output.ts";
import {
  parseCount,
  parseDuration,
  parseDurationOrNever,
  parseHttpAddress,
  parseSize,
} from "./values.ts";

/** How packets are told apart, parsed. */
export interface FramingOptions {
  /** How packets are told apart where they come from. */
  readonly input: Framing;
  /** How they are told apart on the wire; as where they come from unless given. */
  readonly output?: Framing;
  /** What becomes of a packet that is too large. */
  readonly oversize?: Oversize;
}

/** The options of a command that stores packets, parsed. */
export interface QueueCommandOptions {
  /** The queue's file. */
  readonly queue: string;
  /** See `QueueOptions`. */
  readonly maxPackets?: number;
  /** See `QueueOptions`. */
  readonly maxBytes?: number;
  /** See `QueueOptions`. */
  readonly maxPacketBytes: number;
  /** See `QueueOptions`. */
  readonly overflow: "wait" | "reject" | "drop-oldest";
  /** See `QueueOptions`. */
  readonly durability?: "power-loss" | "process-crash";
  /** See `QueueOptions`. */
  readonly commitIn?: "main" | "worker";
  /** See `QueueOptions`. */
  readonly ttl?: number;
  /** See `QueueOptions`. */
  readonly busyTimeout?: number;
}

/** The options of a command that delivers, parsed. */
export interface DeliveryCommandOptions extends QueueCommandOptions {
  /** How long to deliver after SIGTERM or SIGINT. */
  readonly deliverTimeout: number;
  /** See `SenderOptions`. */
  readonly hold?: number;
  /** See `SenderOptions`. */
  readonly stallTimeout?: number;
  /** See `SenderOptions`. */
  readonly peerStallTimeout?: number;
  /** See `SenderOptions`. */
  readonly responseTimeout?: number;
  /** See `SenderOptions`. */
  readonly maxInFlight?: number;
  /** See `SenderOptions`. */
  readonly maxPacketsPerSecond?: number;
  /** See `SenderOptions`. */
  readonly maxBytesPerSecond?: number;
  /** See `SenderOptions`. */
  readonly backlogPacketsPerSecond?: number;
  /** See `SenderOptions`. */
  readonly backlogBytesPerSecond?: number;
  /** See `SenderOptions`. */
  readonly maxAttempts?: number;
  /** See `SenderOptions`. */
  readonly connect?: "on-demand" | "always";
  /** See `SenderOptions`. */
  readonly onPeerFin?: "reconnect" | "keep-sending";
  /** See `SenderOptions`. */
  readonly connectTimeout?: number;
  /** See `SenderOptions`. */
  readonly slowConnectTimeout?: number;
  /** See `SenderOptions`. */
  readonly backoffFirst?: number;
  /** See `SenderOptions`. */
  readonly backoffCap?: number;
  /** False by `--no-nodelay`. */
  readonly nodelay: boolean;
  /** False by `--no-keepalive`. */
  readonly keepalive: boolean;
  /** See `KeepAliveOptions`. */
  readonly keepaliveIdle?: number;
  /** See `KeepAliveOptions`. */
  readonly keepaliveInterval?: number;
  /** See `KeepAliveOptions`. */
  readonly keepaliveCount?: number;
  /** See `SocketOptions`. */
  readonly userTimeout?: number;
  /** See `SocketOptions`. */
  readonly rtoMax?: number;
  /** See `SocketOptions`. */
  readonly sendBuffer?: number;
  /** See `SocketOptions`. */
  readonly notSentLowWater?: number;
  /** See `SocketOptions`. */
  readonly congestion?: string;
  /** See `SocketOptions`. */
  readonly bindToDevice?: string;
  /** See `SocketOptions`. */
  readonly mark?: number;
  /** See `SocketOptions`. */
  readonly priority?: number;
  /** See `SocketOptions`. */
  readonly tos?: number;
  /** Where the status page is served. */
  readonly http?: Remote;
  /** The file that holds its token. */
  readonly httpTokenFile?: string;
  /** Whether it shows the oldest packet's first bytes. */
  readonly httpPayloads?: boolean;
  /** See `StatusServerOptions.undeliverableLimitMs`. */
  readonly unhealthyAfter: number;
  /** Log lines as text or as JSON. */
  readonly logFormat: "text" | "json";
  /** Time between two status lines in the log; 0: none. */
  readonly statusInterval: number;
  /** Also log every step, and where an unexpected error happened. */
  readonly verbose?: boolean;
  /** Log warnings and errors only. */
  readonly quiet?: boolean;
}

/** Adds options to one command, all in the same manner. */
export class OptionAdder {
  readonly #command: Command;

  /** @param command Gets the options. */
  constructor(command: Command) {
    this.#command = command;
  }

  /** Begins a group of options in the help. */
  group(name: string): this {
    this.#command.optionsGroup(`${name}:`);
    return this;
  }

  /** An option that is given or not, or that takes any text. */
  flag(flags: string, description: string): this {
    this.#command.addOption(new Option(flags, description));
    return this;
  }

  /** An option without which the command does not run. */
  required<T>(
    flags: string,
    description: string,
    parse?: (text: string, earlier?: T) => T,
  ): this {
    const option = new Option(flags, description).makeOptionMandatory();
    this.#command.addOption(parse === undefined ? option : option.argParser<T>(parse));
    return this;
  }

  /** An option that takes a value, with its default where that is ours to know. */
  value<T>(
    flags: string,
    description: string,
    parse: (text: string, earlier?: T) => T,
    fallback?: readonly [value: T, words: string],
  ): this {
    const option = new Option(flags, description).argParser<T>(parse);
    this.#command.addOption(fallback === undefined ? option : option.default(...fallback));
    return this;
  }

  /** An option that takes one of a few words. */
  choice(flags: string, description: string, choices: readonly string[], fallback?: string): this {
    const option = new Option(flags, description).choices(choices);
    this.#command.addOption(fallback === undefined ? option : option.default(fallback));
    return this;
  }
}

/** `--queue`, which every command that works on a queue needs. */
export function addQueueFileOption(
  options: OptionAdder,
  description = "the queue's file; made where there is none",
): void {
  options.required("-q, --queue <file>", description);
}

/** `--oversize`, for commands that cut a stream into packets. */
export function addOversizeOption(options: OptionAdder): void {
  options.choice(
    "--oversize <what>",
    "a packet larger than --max-packet-bytes: stop there, leave it out, or shorten it",
    OVERSIZES,
    "fail",
  );
}

/** How full the queue may get, and what stored packets survive. */
export function addQueueOptions(options: OptionAdder): void {
  options.group("Queue")
    .value("--max-packets <count>", "most packets in the queue (default: 10,000,000)", parseCount)
    .value("--max-bytes <size>", "most bytes in the queue (default: 1GiB)", parseSize)
    .value("--max-packet-bytes <size>", "largest packet on the wire", parseSize, [
      16 * 1024 ** 2,
      "16MiB",
    ])
    .choice(
      "--overflow <what>",
      "when the queue is full",
      ["wait", "reject", "drop-oldest"],
      "wait",
    )
    .value(
      "--ttl <time>",
      "packets not sent by then become dead letters (default: never)",
      parseDurationOrNever,
    )
    .choice("--durability <what>", "what stored packets survive (default: power-loss)", [
      "power-loss",
      "process-crash",
    ])
    .choice("--commit-in <thread>", "the thread that waits for the disk (default: main)", [
      "main",
      "worker",
    ])
    .value(
      "--busy-timeout <time>",
      "patience while another process writes the queue (default: 10s)",
      parseDuration,
    );
}

/** Delivery, socket and output: what `send` and `relay` share. */
export function addDeliveryOptions(options: OptionAdder): void {
  options.group("Delivery")
    .value(
      "--stall-timeout <time>",
      "this long without a sign of the server: path dead (default: 3s)",
      parseDuration,
    )
    .value(
      "--hold <time>",
      "how long an acknowledged packet stays on disk; sent again if the connection breaks in it " +
        "(default: 1s)",
      parseDuration,
    )
    .value(
      "--peer-stall-timeout <time>",
      "patience with a server that lives and does not read (default: 5m)",
      parseDurationOrNever,
    )
    .value(
      "--response-timeout <time>",
      "for a server that always responds: this long without a byte of it (default: never)",
      parseDurationOrNever,
    )
    .value("--max-in-flight <size>", "most bytes unacknowledged (default: 256KiB)", parseSize)
    .value(
      "--max-attempts <count>",
      "broken connections after which a packet becomes a dead letter (default: no limit)",
      parseCount,
    )
    .value(
      "--deliver-timeout <time>",
      "go on delivering after SIGTERM or SIGINT",
      parseDurationOrNever,
      [
        5000,
        "5s",
      ],
    )
    .choice("--connect <when>", "when to connect (default: on-demand)", ["on-demand", "always"])
    .choice("--on-peer-fin <what>", "when the server closes its side (default: reconnect)", [
      "reconnect",
      "keep-sending",
    ])
    .value("--connect-timeout <time>", "for one attempt (default: 1s)", parseDuration)
    .value("--slow-connect-timeout <time>", "for every fourth attempt (default: 5s)", parseDuration)
    .value("--backoff-first <time>", "first pause between attempts (default: 100ms)", parseDuration)
    .value("--backoff-cap <time>", "longest pause between attempts (default: 1s)", parseDuration);

  options.group("Pace (default: no limits)")
    .value("--max-packets-per-second <count>", "most packets that go out", parseCount)
    .value("--max-bytes-per-second <size>", "most bytes that go out", parseSize)
    .value(
      "--backlog-packets-per-second <count>",
      "the same for what waited when a connection was made",
      parseCount,
    )
    .value("--backlog-bytes-per-second <size>", "the same in bytes", parseSize);

  options.group("Socket")
    .flag("--no-nodelay", "leave Nagle's algorithm on (TCP_NODELAY off)")
    .flag("--no-keepalive", "no probes on an idle connection")
    .value("--keepalive-idle <time>", "idle time before a probe (default: 10s)", parseDuration)
    .value("--keepalive-interval <time>", "between probes (default: 3s)", parseDuration)
    .value("--keepalive-count <count>", "probes unanswered: dead (default: 3)", parseCount)
    .value("--user-timeout <time>", "TCP_USER_TIMEOUT (default: above all others)", parseDuration)
    .value("--rto-max <time>", "TCP_RTO_MAX_MS, from Linux 6.15 on (default: 1s)", parseDuration)
    .value("--send-buffer <size>", "SO_SNDBUF (default: the system's)", parseSize)
    .value("--not-sent-low-water <size>", "TCP_NOTSENT_LOWAT (default: the system's)", parseSize)
    .flag("--congestion <name>", "congestion control, such as bbr (default: the system's)")
    .flag("--bind-to-device <name>", "SO_BINDTODEVICE, such as eth0")
    .value("--mark <number>", "SO_MARK; needs CAP_NET_ADMIN or CAP_NET_RAW", parseCount)
    .value("--priority <number>", "SO_PRIORITY", parseCount)
    .value("--tos <number>", "IP_TOS or IPV6_TCLASS, in steps of 4, such as 0x20", parseCount);

  options.group("Status page")
    .value(
      "--http <address>",
      "serve it there, with /metrics and /healthz: 127.0.0.1:9465",
      parseHttpAddress,
    )
    .flag(
      "--http-token-file <file>",
      "what readers have to know; needed beyond 127.0.0.1 and [::1]",
    )
    .flag("--http-payloads", "show the first bytes of the oldest packet")
    .value(
      "--unhealthy-after <time>",
      "/healthz says 503 when nothing was acknowledged for so long",
      parseDuration,
      [60_000, "1m"],
    );

  options.group("Output")
    .choice("--log-format <format>", "log lines on stderr", ["text", "json"], "text")
    .value("--status-interval <time>", "status in the log this often; 0s: never", parseDuration, [
      10_000,
      "10s",
    ])
    .flag("-v, --verbose", "log every step")
    .flag("--quiet", "log warnings and errors only")
    .group("Other");
}

/**
 * What options cannot say one by one.
 *
 * @throws {UsageError} They contradict each other.
 */
export function checkDeliveryOptions(options: DeliveryCommandOptions): void {
  if (!options.keepalive) {
    for (const name of ["keepaliveIdle", "keepaliveInterval", "keepaliveCount"] as const) {
      if (options[name] !== undefined) {
        throw new UsageError("--no-keepalive cannot be combined with --keepalive-… options");
      }
    }
  }
  if (options.http === undefined && (options.httpTokenFile !== undefined || options.httpPayloads)) {
    throw new UsageError("--http-token-file and --http-payloads need --http");
  }
  if (options.verbose && options.quiet) {
    throw new UsageError("--verbose and --quiet cannot be combined");
  }
}

/** The level of log lines that was asked for. */
export function logLevelOf({ verbose, quiet }: DeliveryCommandOptions): LogLevel {
  return verbose ? "debug" : quiet ? "warn" : "info";
}

/** What the queue is opened with. */
export function queueOptionsOf(options: QueueCommandOptions): QueueOptions {
  return given({
    maxPackets: options.maxPackets,
    maxBytes: options.maxBytes,
    maxPacketBytes: options.maxPacketBytes,
    overflow: options.overflow,
    ttlMs: options.ttl,
    durability: options.durability,
    commitIn: options.commitIn,
    busyTimeoutMs: options.busyTimeout,
  });
}

/** What the sender is opened with, besides queue and remote. */
export function deliveryOptionsOf(
  options: DeliveryCommandOptions,
): Omit<SenderOptions, "queue" | "remote" | "logger"> {
  return given({
    holdMs: options.hold,
    stallTimeoutMs: options.stallTimeout,
    peerStallTimeoutMs: options.peerStallTimeout,
    responseTimeoutMs: options.responseTimeout,
    maxInFlightBytes: options.maxInFlight,
    maxPacketsPerSecond: options.maxPacketsPerSecond,
    maxBytesPerSecond: options.maxBytesPerSecond,
    backlogPacketsPerSecond: options.backlogPacketsPerSecond,
    backlogBytesPerSecond: options.backlogBytesPerSecond,
    maxAttempts: options.maxAttempts,
    connect: options.connect,
    onPeerFin: options.onPeerFin,
    connectTimeoutMs: options.connectTimeout,
    slowConnectTimeoutMs: options.slowConnectTimeout,
    backoffFirstMs: options.backoffFirst,
    backoffCapMs: options.backoffCap,
    socket: socketOptionsOf(options),
  });
}

function socketOptionsOf(options: DeliveryCommandOptions): SocketOptions {
  const keepAlive: KeepAliveOptions | false = options.keepalive && given({
    idleMs: options.keepaliveIdle,
    intervalMs: options.keepaliveInterval,
    count: options.keepaliveCount,
  });
  return given({
    noDelay: options.nodelay,
    keepAlive,
    userTimeoutMs: options.userTimeout,
    rtoMaxMs: options.rtoMax,
    sendBufferBytes: options.sendBuffer,
    notSentLowWaterBytes: options.notSentLowWater,
    congestion: options.congestion,
    bindToDevice: options.bindToDevice,
    mark: options.mark,
    priority: options.priority,
    tos: options.tos,
  });
}

/** The options that were given: an absent one and an undefined one are not the same. */
function given<T extends object>(options: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const present: { [K in keyof T]?: Exclude<T[K], undefined> } = { ...options };
  for (const name in present) if (present[name] === undefined) delete present[name];
  return present;
}

/**
 * Makes what cuts the input into packets.
 *
 * @throws {UsageError} The options leave no room for a packet.
 */
export function splitterFor(
  { input, output = input, maxPacketBytes, oversize = "fail" }: FramingOptions & {
    readonly maxPacketBytes: number;
  },
): PacketSplitter {
  try {
    return new PacketSplitter({ input, output, maxPacketBytes, oversize });
  } catch (error) {
    throw asUsageError(error);
  }
}

/** A value that the library finds out of range is one that the user gave. */
export function asUsageError(error: unknown): unknown {
  return error instanceof RangeError && !(error instanceof PacketSizeError)
    ? new UsageError(error.message)
    : error;
}
