/** The options that commands share, and what they mean to the library. */

import { OptionError, PacketSizeError } from "../../base/errors.ts";
import {
  CLOSE_OPTIONS,
  DELIVERY_OPTIONS,
  KEEP_ALIVE_OPTIONS,
  PACE_OPTIONS,
  QUEUE_OPTIONS,
  SOCKET_OPTIONS,
  TLS_OPTIONS,
  VIA_OPTIONS,
} from "../../base/option_table.ts";
import { STATUS_OPTIONS } from "../../base/subpath_option_table.ts";
import {
  choice,
  duration,
  type OptionTable,
  type ResolvedOptions,
  resolveOptions,
  takes,
} from "../../base/options.ts";
import type { HostRemote } from "../../base/remote.ts";
import { DESCRIBED_FRAMINGS, type Framing, NAMED_FRAMINGS } from "../../framing/framing.ts";
import { type Oversize, PacketSplitter } from "../../framing/splitter.ts";
import { formatHostPort } from "../../base/remote.ts";
import { isLoopback } from "../../kernel/ip_address.ts";
import type { QueueOptions } from "../../queue/options.ts";
import type { SenderOptions } from "../../sender/options.ts";
import type { TlsOptions } from "../../tls/options.ts";
import { UsageError } from "../terminal/exit_code.ts";
import { COMPOSED_OPTIONS, flagOf, givenOf, inFlags, OPTIONS } from "../terminal/flags.ts";
import type { LogLevel } from "../terminal/output.ts";
import { unreadable } from "../terminal/stdio.ts";
import { STORES } from "./queue_place.ts";
import { addAnswerOptions, type AnswerCommandOptions, confirmationOf } from "./answers.ts";
import { addSessionOptions, type SessionCommandOptions, sessionOf } from "./session.ts";
import { addViaOptions, VIA, viaOptionsOf } from "./proxy.ts";
import { type OptionAdder, ruleInWords, valueInWords } from "./option_adder.ts";
import { checkedQueue, OVERSIZES, parseHttpAddress } from "./values.ts";

/** What the log shows: options that only the command has. */
export const LOG_OPTIONS = {
  logFormat: choice("--log-format <format>", "log lines on stderr", ["text", "json"], "text"),
  statusIntervalMs: duration(
    "--status-interval <time>",
    "status in the log this often; 0s: never",
    { default: 10_000 },
  ),
} as const satisfies OptionTable;

/** Stands before the names of keepalive's options. */
export const KEEP_ALIVE = "keepAlive.";
/** The same of those of TLS. */
export const TLS = "tls.";
/** Whose flag takes the file that holds the value. */
const TLS_FILES = ["ca", "cert", "key", "passphrase"] as const;

export interface FramingOptions {
  /** Where packets come from. */
  readonly input: Framing;
  /** On the wire; as where they come from unless given. */
  readonly output?: Framing;
  /** What becomes of a packet that is too large. */
  readonly oversize?: Oversize;
}

/** The options of a command that stores packets, parsed; those of the library by its names. */
export interface QueueCommandOptions {
  readonly queue: string;
  readonly maxPacketBytes: number;
  readonly maxBytes?: number;
}

/** The options of a command that delivers, parsed; those of the library by its names. */
export interface DeliveryCommandOptions
  extends
    QueueCommandOptions,
    SessionCommandOptions,
    AnswerCommandOptions,
    ResolvedOptions<typeof CLOSE_OPTIONS>,
    ResolvedOptions<typeof STATUS_OPTIONS>,
    ResolvedOptions<typeof LOG_OPTIONS> {
  /** False by `--no-keepalive`. */
  readonly keepalive: boolean;
  readonly libc?: string;
  readonly libssl?: string;
  /** Where the status page is served. */
  readonly http?: HostRemote;
  readonly httpTokenFile?: string;
  readonly httpPayloads?: boolean;
  /** Also log where an unexpected error happened. */
  readonly verbose?: boolean;
  readonly quiet?: boolean;
  /** The level that a route file asks for. */
  readonly logLevel?: LogLevel;
}

/** For the end of the help of each command that cuts a stream into packets. */
export function framingHelp(): string {
  const indent = " ".repeat(18);
  const rows = [
    ...NAMED_FRAMINGS.map(({ form, is = [], wire = is.join(" or ") }) => [form, wire]),
    ...DESCRIBED_FRAMINGS.map(({ form, wire = "" }) => [form, wire]),
  ].map(([form = "", wire = ""]) => {
    const plain = wire.replaceAll("`", "");
    const words = plain.length > 62 ? plain.replaceAll(/(.{30,62}) /g, `$1\n${indent}`) : plain;
    return form.length < 15 ? `  ${form.padEnd(16)}${words}` : `  ${form}\n${indent}${words}`;
  });
  return `Framings (HEX: bytes as hexadecimal digits; docs/PROTOCOLS.md has the details):
${rows.join("\n")}`;
}

/** What `--queue` of a command takes that makes no queue. */
export const QUEUE_THERE =
  "the queue's file, or spool:FILE#NAME, or postgres://USER@HOST/DATABASE/NAME";

/** `--queue`, which every command that works on a queue needs. */
export function addQueueOption(
  options: OptionAdder,
  description =
    "the queue's file, made where there is none; or spool:FILE#NAME, one of the queues " +
    "in a file; or postgres://USER@HOST/DATABASE/NAME",
): void {
  options.required("-q, --queue <file>", description, checkedQueue);
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

/**
 * How full the queue may get, and what stored packets survive.
 *
 * @param makesDeadLetters Whether the command bounds them untold; see `KEEPS_DEAD_LETTERS`.
 */
export function addQueueOptions(options: OptionAdder, { makesDeadLetters = true } = {}): void {
  options.group("Queue").table(QUEUE_OPTIONS, {
    ...(makesDeadLetters ? {} : { maxDeadPackets: undefined, maxDeadBytes: undefined }),
    ...STORES,
  });
}

export function addTlsOptions(options: OptionAdder): void {
  options.group("TLS (for tls://HOST:PORT)").table(TLS_OPTIONS, {}, TLS);
}

/** Delivery, socket and output: what `send` and `relay` share. */
export function addDeliveryOptions(options: OptionAdder): void {
  options.group("Delivery")
    .table(DELIVERY_OPTIONS)
    .table(CLOSE_OPTIONS, resolveOptions(CLOSE_OPTIONS, {}));
  addTlsOptions(options);
  addViaOptions(options);
  options.group("Pace").table(PACE_OPTIONS);
  addSessionOptions(options);
  addAnswerOptions(options);
  options.group("Socket")
    .table(SOCKET_OPTIONS)
    .flag("--no-keepalive", "no probes on an idle connection")
    .table(KEEP_ALIVE_OPTIONS, {}, KEEP_ALIVE)
    .flag("--libc <path>", "the C library, where it is none of the usual paths (NixOS, Guix)")
    .flag("--libssl <path>", "OpenSSL's libssl for --confirm reader, where it is none of them");
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
    .table(STATUS_OPTIONS, resolveOptions(STATUS_OPTIONS, {}));
  addOutputOptions(options);
}

export function addOutputOptions(options: OptionAdder): void {
  options.group("Output")
    .table(LOG_OPTIONS, resolveOptions(LOG_OPTIONS, {}))
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
  const keepAlive = givenOf(KEEP_ALIVE_OPTIONS, options, KEEP_ALIVE);
  if (!options.keepalive && Object.keys(keepAlive).length > 0) {
    throw new UsageError("--no-keepalive cannot be combined with --keepalive-… options");
  }
  if (options.http === undefined && (options.httpTokenFile !== undefined || options.httpPayloads)) {
    throw new UsageError("--http-token-file and --http-payloads need --http");
  }
  if (options.verbose && options.quiet) {
    throw new UsageError("--verbose and --quiet cannot be combined");
  }
}

/**
 * Looks at where the status page is served, before anybody is asked for permissions.
 *
 * @throws {OptionError} It would be open to everybody.
 */
export function checkPageAddress(
  { http, httpTokenFile }: Pick<DeliveryCommandOptions, "http" | "httpTokenFile">,
): void {
  if (http === undefined || httpTokenFile !== undefined || isLoopback(http.hostname)) return;
  throw new OptionError(
    "http.address",
    formatHostPort(http.hostname, http.port),
    "needs a token where it is not a loopback address, because whoever reaches it could read " +
      "the status: --http-token-file (a route file's tokenFile), or 127.0.0.1 or [::1]",
  );
}

export function logLevelOf(
  { verbose, quiet, logLevel = "info" }: Pick<
    DeliveryCommandOptions,
    "verbose" | "quiet" | "logLevel"
  >,
): LogLevel {
  return verbose ? "debug" : quiet ? "warn" : logLevel;
}

export function queueOptionsOf(options: QueueCommandOptions): QueueOptions {
  return givenOf(QUEUE_OPTIONS, options);
}

/** What the sender is opened with, besides queue and remote. */
export function deliveryOptionsOf(
  options: DeliveryCommandOptions,
): Omit<SenderOptions, "queue" | "remote" | "logger"> {
  const session = sessionOf(options);
  return {
    ...givenOf(DELIVERY_OPTIONS, options),
    ...givenOf(PACE_OPTIONS, options),
    ...(options.libc === undefined ? {} : { libc: options.libc }),
    ...(options.libssl === undefined ? {} : { libssl: options.libssl }),
    ...(session === undefined ? {} : { session }),
    ...confirmationOf(options),
    ...tlsOptionsOf(options),
    ...viaOptionsOf(options),
    socket: {
      ...givenOf(SOCKET_OPTIONS, options),
      keepAlive: options.keepalive && givenOf(KEEP_ALIVE_OPTIONS, options, KEEP_ALIVE),
    },
  };
}

/** The files that options of TLS and of a proxy name. */
export function connectionFilesOf(options: object): string[] {
  const tls = givenOf(TLS_OPTIONS, options, TLS);
  const { credentials } = givenOf(VIA_OPTIONS, options, VIA);
  return [...TLS_FILES.map((name) => tls[name]), credentials].filter((path) => path !== undefined);
}

/**
 * How TLS is spoken, where any of it was given. The files are read anew for each
 * connection, so that certificates can be renewed.
 */
export function tlsOptionsOf(options: object): { readonly tls?: () => Promise<TlsOptions> } {
  const given = givenOf(TLS_OPTIONS, options, TLS);
  if (Object.keys(given).length === 0) return {};
  return {
    tls: async () => {
      const texts: { [name in (typeof TLS_FILES)[number]]?: string } = {};
      for (const name of TLS_FILES) {
        const path = given[name];
        if (path === undefined) continue;
        const text = await readText(path, flagOf(TLS_OPTIONS[name]));
        // An editor ends a file with a line break, which no passphrase has.
        texts[name] = name === "passphrase" ? text.replace(/\r?\n$/, "") : text;
      }
      return { ...given, ...texts };
    },
  };
}

async function readText(path: string, flag: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    throw unreadable(error, path, `${flag}: ${path}`);
  }
}

/** @throws {OptionError} The options leave no room for a packet. */
export function splitterFor(
  { input, output = input, oversize = "fail", ...limits }:
    & FramingOptions
    & Pick<QueueCommandOptions, "maxPacketBytes" | "maxBytes">,
): PacketSplitter {
  const { maxPacketBytes, maxBytes = QUEUE_OPTIONS.maxBytes.default } = limits;
  return new PacketSplitter({ input, output, maxPacketBytes, maxBytes, oversize });
}

/** A value that the library finds out of range is one that the user gave. */
export function asUsageError(error: unknown): unknown {
  if (error instanceof OptionError) {
    const spec = OPTIONS.get(error.option);
    if (spec === undefined) {
      // Steps of a session are told apart by their number.
      const flag = COMPOSED_OPTIONS.get(error.option.replace(/\[\d+\]/, ""));
      if (flag === undefined) return new UsageError(error.message);
      const got = typeof error.value === "string" ? `, got ${error.value}` : "";
      return new UsageError(`${flag} ${inFlags(error.rule)}${got}`);
    }
    // Where the option does take the value, another one's is in its way.
    const saysMore = takes(spec, error.value) || error.value === null || spec.type === "texts";
    const rule = saysMore ? inFlags(error.rule) : ruleInWords(spec);
    // What holds a secret is not shown.
    if (error.value === null) return new UsageError(`${flagOf(spec)} ${rule}`);
    return new UsageError(`${flagOf(spec)} ${rule}, got ${valueInWords(spec, error.value)}`);
  }
  return error instanceof RangeError && !(error instanceof PacketSizeError)
    ? new UsageError(error.message)
    : error;
}
