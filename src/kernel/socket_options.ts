/**
 * How a connection's socket is tuned: what may be asked for, what is asked for
 * by default, and what the kernel made of it. Ranges are those of tcp(7),
 * socket(7), ip(7) and kernel_facts, sections 5 and 8.
 *
 * Options are applied right after the connection was made and before its first
 * byte, because `Deno.connect` makes the socket.
 */

import { SocketOptionError } from "../base/errors.ts";
import { KEEP_ALIVE_OPTIONS, SOCKET_OPTIONS } from "../base/option_table.ts";
import {
  checkFields,
  checkOptions,
  type ResolvedOptions,
  resolveOptions,
} from "../base/options.ts";
import {
  AF_INET6,
  IPPROTO_TCP,
  SO_BINDTODEVICE,
  SO_DOMAIN,
  SO_MARK,
  SO_SNDBUF,
  SOL_SOCKET,
} from "./constants.ts";
import { getSocketInt, getSocketName, setSocketInt, setSocketName } from "./libc.ts";

/**
 * When an idle connection is asked whether it still lives; tcp(7).
 *
 * @category Delivery
 */
export interface KeepAliveOptions {
  /**
   * Idle time before the first probe, in milliseconds, 1 to 32,767,000. The
   * kernel counts whole seconds; the rest of a second is rounded up.
   *
   * @default {10_000}
   */
  readonly idleMs?: number;
  /**
   * Time between probes, in milliseconds, 1 to 32,767,000, rounded up likewise.
   *
   * @default {3_000}
   */
  readonly intervalMs?: number;
  /**
   * How many unanswered probes end the connection, 1 to 127. With
   * {@linkcode SocketOptions.userTimeoutMs} that time counts instead.
   *
   * @default {3}
   */
  readonly count?: number;
}

/**
 * Tuning of the TCP socket. On a connection that sendq makes, what is left out gets
 * the default named here, and an option without a default stays as the system has
 * set it. `setSocketOptions` of `@sendq/sendq/tcp` sets what is given and nothing else.
 *
 * @category Delivery
 */
export interface SocketOptions {
  /**
   * TCP_NODELAY: small writes leave at once. `false` saves packets on the wire,
   * and costs up to one round trip of latency whenever bytes are in flight.
   *
   * @default {true}
   */
  readonly noDelay?: boolean;
  /**
   * SO_KEEPALIVE with its three times: finds a dead path while nothing is being
   * sent. It does nothing while bytes are queued. `false` costs nothing on the
   * wire, and an idle connection that died is noticed only at the next packet.
   *
   * @default {KeepAliveOptions} `idleMs` 10,000, `intervalMs` 3,000, `count` 3
   */
  readonly keepAlive?: KeepAliveOptions | false;
  /**
   * TCP_USER_TIMEOUT in milliseconds, 0 (the kernel's own limits) to
   * 2,147,483,647: how long bytes may stay unacknowledged before the kernel ends
   * the connection. It counts a peer that lives and does not read as well, so a
   * short one kills stalled readers.
   */
  readonly userTimeoutMs?: number;
  /**
   * SO_SNDBUF in bytes, 1 to 1,073,741,823. The kernel doubles it for its own
   * bookkeeping, raises it to 4,608, and cuts it without a word at
   * `net.core.wmem_max`; see {@linkcode EffectiveSocketOptions}. Setting it
   * switches the kernel's own tuning off: too small a buffer costs throughput on
   * long paths.
   */
  readonly sendBufferBytes?: number;
  /**
   * TCP_RTO_MAX_MS, 1000 to 120,000: the longest wait between two
   * retransmissions or zero-window probes. A low one resumes soon after an
   * outage, at the price of more retransmissions; and unless
   * {@linkcode SocketOptions.userTimeoutMs} is set, the kernel's limit of 15 retries is
   * reached sooner (15 s at 1000 ms). Linux older than 6.15 does not know it: the
   * default is skipped there, a value that was asked for is a `SocketOptionError`.
   *
   * @default {1000}
   */
  readonly rtoMaxMs?: number;
  /**
   * TCP_CONGESTION: the name of a congestion control that is loaded and allowed
   * here, such as `"cubic"` or `"bbr"`.
   */
  readonly congestion?: string;
  /**
   * SO_BINDTODEVICE: the interface that every packet must use, such as
   * `"eth0"`. The handshake goes by the routing table, so the route has to lead
   * over that interface too; an attempt whose route does not fails with
   * `ENETUNREACH`.
   */
  readonly bindToDevice?: string;
  /**
   * SO_MARK, 0 to 4,294,967,295: the firewall mark for policy routing. Needs
   * CAP_NET_ADMIN or CAP_NET_RAW. The handshake is not marked.
   */
  readonly mark?: number;
  /**
   * IP_TOS or IPV6_TCLASS: the byte whose upper six bits are the DSCP, 0 to 252
   * in steps of 4 (the lower two bits are the kernel's, for ECN). Linux sets
   * the socket's priority from it. The handshake does not carry it.
   */
  readonly tos?: number;
}

/**
 * What the kernel actually took, read back from the socket. `undefined` where it does
 * not say, as sandboxes and other kernels than Linux may not.
 *
 * @category Dialer
 */
export interface CurrentSocketOptions {
  /** TCP_NODELAY. */
  readonly noDelay: boolean | undefined;
  /** SO_KEEPALIVE and its times, in whole seconds as milliseconds. */
  readonly keepAlive: Required<KeepAliveOptions> | false | undefined;
  /** TCP_USER_TIMEOUT; 0: the kernel's own limits. */
  readonly userTimeoutMs: number | undefined;
  /** SO_SNDBUF: twice what was asked for, within the system's limits. */
  readonly sendBufferBytes: number | undefined;
  /** TCP_RTO_MAX_MS; `undefined`: this kernel does not know it, either. */
  readonly rtoMaxMs: number | undefined;
  /** TCP_CONGESTION. */
  readonly congestion: string | undefined;
  /** SO_BINDTODEVICE; `undefined`: none. */
  readonly bindToDevice: string | undefined;
  /** SO_MARK. */
  readonly mark: number | undefined;
  /** IP_TOS or IPV6_TCLASS, whichever the connection uses. */
  readonly tos: number | undefined;
}

/**
 * {@linkcode CurrentSocketOptions} of a connection that sendq has made.
 *
 * @category Dialer
 */
export interface EffectiveSocketOptions extends CurrentSocketOptions {
  /** Names of the options that nobody asked for and that this kernel refused: they were skipped. */
  readonly unsupported: readonly string[];
}

/** Checked options with their defaults. */
export type ResolvedSocketOptions = ResolvedOptions<typeof SOCKET_OPTIONS> & {
  readonly keepAlive: ResolvedOptions<typeof KEEP_ALIVE_OPTIONS> | false;
};

// SOL_SOCKET
const SO_KEEPALIVE = 9;
// IPPROTO_IP, IPPROTO_IPV6
const IPPROTO_IP = 0;
const IP_TOS = 1;
const IPPROTO_IPV6 = 41;
const IPV6_TCLASS = 67;
// IPPROTO_TCP
const TCP_NODELAY = 1;
const TCP_KEEPIDLE = 4;
const TCP_KEEPINTVL = 5;
const TCP_KEEPCNT = 6;
const TCP_CONGESTION = 13;
const TCP_USER_TIMEOUT = 18;
const TCP_RTO_MAX_MS = 44;

/** @throws {OptionError} There is an option that does not exist. */
function checkNames(name: string, options: SocketOptions): void {
  checkFields(name, options, [SOCKET_OPTIONS, "keepAlive"], { keepAlive: KEEP_ALIVE_OPTIONS });
  const { keepAlive = {} } = options;
  if (keepAlive !== false) checkFields("keepAlive", keepAlive, [KEEP_ALIVE_OPTIONS]);
}

/**
 * Checks options and fills in defaults. Makes no system call, so that a mistake
 * is found before anything is connected.
 *
 * @throws {OptionError} A value is out of range or of the wrong type.
 */
export function validateSocketOptions(options: SocketOptions = {}): ResolvedSocketOptions {
  checkNames("socket", options);
  const { keepAlive = {} } = options;
  return {
    ...resolveOptions(SOCKET_OPTIONS, options),
    keepAlive: keepAlive && resolveOptions(KEEP_ALIVE_OPTIONS, keepAlive, "keepAlive."),
  };
}

/** Checks what is given and fills nothing in; otherwise as {@linkcode validateSocketOptions}. */
export function checkSocketOptions(options: SocketOptions): void {
  checkNames("", options);
  checkOptions(SOCKET_OPTIONS, options);
  const { keepAlive } = options;
  if (keepAlive) checkOptions(KEEP_ALIVE_OPTIONS, keepAlive, "keepAlive.");
}

/** A socket under way to its options. */
interface Target {
  readonly fd: number;
  /** What the user gave; everything else is a default of ours. */
  readonly asked: SocketOptions;
  /** Defaults that were refused. */
  readonly unsupported: string[];
}

/**
 * Sets what is given on a TCP socket and nothing else, and reads back what the kernel took.
 * `keepAlive` with some of its times leaves the others as they are.
 *
 * @param options In the order of {@linkcode CurrentSocketOptions}; checked.
 * @param asked Those among them that the user gave: where the kernel refuses another one,
 *   the connection goes without.
 * @throws {SocketOptionError} The kernel refused one of those; names option and value.
 */
export function applySocketOptions(
  fd: number,
  options: SocketOptions,
  asked: SocketOptions = options,
): EffectiveSocketOptions {
  const target: Target = { fd, asked, unsupported: [] };
  setAll(target, options);
  return { ...readSocketOptions(fd), unsupported: target.unsupported };
}

function setAll(target: Target, options: SocketOptions): void {
  const { noDelay, keepAlive } = options;
  const raw = noDelay === undefined ? undefined : Number(noDelay);
  setInt(target, "noDelay", noDelay, IPPROTO_TCP, TCP_NODELAY, raw);
  if (keepAlive !== undefined) applyKeepAlive(target, keepAlive);
  setInt(target, "userTimeoutMs", options.userTimeoutMs, IPPROTO_TCP, TCP_USER_TIMEOUT);
  setInt(target, "sendBufferBytes", options.sendBufferBytes, SOL_SOCKET, SO_SNDBUF);
  setInt(target, "rtoMaxMs", options.rtoMaxMs, IPPROTO_TCP, TCP_RTO_MAX_MS);
  setName(target, "congestion", options.congestion, IPPROTO_TCP, TCP_CONGESTION);
  setInt(target, "mark", options.mark, SOL_SOCKET, SO_MARK);
  applyTos(target, options.tos);
  // Last, because from here on packets of another interface no longer reach the socket.
  setName(target, "bindToDevice", options.bindToDevice, SOL_SOCKET, SO_BINDTODEVICE);
}

/** Has the kernel ask an idle peer for a sign of life, or not. Says whether it took all of it. */
export function setKeepAlive(fd: number, keepAlive: Required<KeepAliveOptions> | false): boolean {
  const target: Target = { fd, asked: {}, unsupported: [] };
  applyKeepAlive(target, keepAlive);
  return target.unsupported.length === 0;
}

function applyKeepAlive(target: Target, keepAlive: KeepAliveOptions | false): void {
  if (keepAlive !== false) {
    const seconds = (option: string, milliseconds: number | undefined, name: number) => {
      const raw = milliseconds === undefined ? undefined : Math.ceil(milliseconds / 1000);
      setInt(target, option, milliseconds, IPPROTO_TCP, name, raw);
    };
    seconds("keepAlive.idleMs", keepAlive.idleMs, TCP_KEEPIDLE);
    seconds("keepAlive.intervalMs", keepAlive.intervalMs, TCP_KEEPINTVL);
    setInt(target, "keepAlive.count", keepAlive.count, IPPROTO_TCP, TCP_KEEPCNT);
  }
  setInt(target, "keepAlive", keepAlive, SOL_SOCKET, SO_KEEPALIVE, keepAlive === false ? 0 : 1);
}

/** An IPv6 socket may carry IPv4 (v4-mapped), which takes its byte from IP_TOS. */
function applyTos(target: Target, tos: number | undefined): void {
  if (isIpv6Socket(target.fd)) setInt(target, "tos", tos, IPPROTO_IPV6, IPV6_TCLASS);
  setInt(target, "tos", tos, IPPROTO_IP, IP_TOS);
}

function isIpv6Socket(fd: number): boolean {
  return getSocketInt(fd, SOL_SOCKET, SO_DOMAIN) === AF_INET6;
}

function setInt(
  target: Target,
  option: string,
  value: unknown,
  level: number,
  name: number,
  raw: number | undefined = typeof value === "number" ? value : undefined,
): void {
  if (raw === undefined || setSocketInt(target.fd, level, name, raw)) return;
  refused(target, option, value);
}

function setName(
  target: Target,
  option: string,
  value: string | undefined,
  level: number,
  name: number,
): void {
  if (value === undefined || setSocketName(target.fd, level, name, value)) return;
  refused(target, option, value);
}

/** Why a value that passed {@linkcode validateSocketOptions} can still be refused. */
const ADVICE: Readonly<Record<string, string>> = {
  bindToDevice: "there is no such interface (ip link), or the process may not bind to it " +
    "(CAP_NET_RAW; before Linux 5.7 always needed).",
  congestion: "it is not loaded, or not allowed for this user. Allowed are those in " +
    "sysctl net.ipv4.tcp_allowed_congestion_control; load others with modprobe tcp_NAME.",
  mark: "it needs CAP_NET_ADMIN or CAP_NET_RAW. Give the process one of them, or leave mark out.",
  rtoMaxMs: "this kernel does not know it, Linux 6.15 or newer does. Leave it out.",
};

/** Without what was asked for, the connection is not the one that was wanted. */
function refused({ asked, unsupported }: Target, option: string, value: unknown): void {
  if (!wasAskedFor(asked, option)) {
    unsupported.push(option);
    return;
  }
  throw new SocketOptionError(
    option,
    value,
    ADVICE[option] ??
      "this kernel does not know the option, or does not take that value. " +
        "Leave the option out or change it.",
  );
}

/** @param option For example `"mark"`, or `"keepAlive.idleMs"`. */
function wasAskedFor(asked: SocketOptions, option: string): boolean {
  let value: unknown = asked;
  for (const name of option.split(".")) {
    value = typeof value === "object" && value !== null && name in value
      ? Reflect.get(value, name)
      : undefined;
  }
  return value !== undefined;
}

/** Reads every option back. What cannot be read is not known, and nothing depends on it. */
export function readSocketOptions(fd: number): CurrentSocketOptions {
  const tcp = (option: number) => getSocketInt(fd, IPPROTO_TCP, option);
  const socket = (option: number) => getSocketInt(fd, SOL_SOCKET, option);
  const noDelay = tcp(TCP_NODELAY);
  const mark = socket(SO_MARK);
  return {
    noDelay: noDelay === undefined ? undefined : noDelay !== 0,
    keepAlive: readKeepAlive(fd),
    userTimeoutMs: tcp(TCP_USER_TIMEOUT),
    sendBufferBytes: socket(SO_SNDBUF),
    rtoMaxMs: tcp(TCP_RTO_MAX_MS),
    congestion: getSocketName(fd, IPPROTO_TCP, TCP_CONGESTION),
    bindToDevice: getSocketName(fd, SOL_SOCKET, SO_BINDTODEVICE) || undefined,
    mark: mark === undefined ? undefined : mark >>> 0,
    tos: isIpv6Socket(fd)
      ? getSocketInt(fd, IPPROTO_IPV6, IPV6_TCLASS)
      : getSocketInt(fd, IPPROTO_IP, IP_TOS),
  };
}

function readKeepAlive(fd: number): EffectiveSocketOptions["keepAlive"] {
  const on = getSocketInt(fd, SOL_SOCKET, SO_KEEPALIVE);
  if (on === undefined) return undefined;
  if (on === 0) return false;
  const idle = getSocketInt(fd, IPPROTO_TCP, TCP_KEEPIDLE);
  const interval = getSocketInt(fd, IPPROTO_TCP, TCP_KEEPINTVL);
  const count = getSocketInt(fd, IPPROTO_TCP, TCP_KEEPCNT);
  if (idle === undefined || interval === undefined || count === undefined) return undefined;
  return { idleMs: idle * 1000, intervalMs: interval * 1000, count };
}
