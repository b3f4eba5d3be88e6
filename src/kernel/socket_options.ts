/**
 * How a connection's socket is tuned: what may be asked for, what is asked for
 * by default, and what the kernel made of it. Ranges are those of tcp(7),
 * socket(7), ip(7) and kernel_facts, sections 5 and 8.
 *
 * Options are applied right after the connection was made and before its first
 * byte, because `Deno.connect` makes the socket.
 *
 * @module
 */

import { SocketOptionError } from "../base/errors.ts";
import { AF_INET6, IPPROTO_TCP, SO_BINDTODEVICE, SO_MARK, SOL_SOCKET } from "./constants.ts";
import { getSocketInt, getSocketName, libc, setSocketInt } from "./libc.ts";

/** When an idle connection is asked whether it still lives; tcp(7). */
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
 * Tuning of the TCP socket. What is left out gets the default named here; an
 * option without a default stays as the system has set it.
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
   * @default {{ idleMs: 10_000, intervalMs: 3_000, count: 3 }}
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
   * TCP_NOTSENT_LOWAT in bytes, 1 to 2,147,483,647: the kernel takes no more
   * while this much is queued and was never sent. Of little use here, since
   * sendq bounds what is in flight itself; too small costs throughput.
   */
  readonly notSentLowWaterBytes?: number;
  /**
   * TCP_RTO_MAX_MS, 1000 to 120,000: the longest wait between two
   * retransmissions or zero-window probes. A low one resumes soon after an
   * outage, at the price of more retransmissions; and unless
   * {@linkcode userTimeoutMs} is set, the kernel's limit of 15 retries is
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
  /** SO_PRIORITY, 0 to 2,147,483,647; above 6 it needs CAP_NET_ADMIN. */
  readonly priority?: number;
  /**
   * IP_TOS or IPV6_TCLASS: the byte whose upper six bits are the DSCP, 0 to 252
   * in steps of 4 (the lower two bits are the kernel's, for ECN). Linux sets
   * the priority from it unless {@linkcode priority} is given. The handshake
   * does not carry it.
   */
  readonly tos?: number;
}

/**
 * What the kernel actually took, read back from the socket. `undefined` where it does
 * not say, as sandboxes and other kernels than Linux may not.
 */
export interface EffectiveSocketOptions {
  /** TCP_NODELAY. */
  readonly noDelay: boolean | undefined;
  /** SO_KEEPALIVE and its times, in whole seconds as milliseconds. */
  readonly keepAlive: Required<KeepAliveOptions> | false | undefined;
  /** TCP_USER_TIMEOUT; 0: the kernel's own limits. */
  readonly userTimeoutMs: number | undefined;
  /** SO_SNDBUF: twice what was asked for, within the system's limits. */
  readonly sendBufferBytes: number | undefined;
  /** TCP_NOTSENT_LOWAT; 0: the system's `net.ipv4.tcp_notsent_lowat`. */
  readonly notSentLowWaterBytes: number | undefined;
  /** TCP_RTO_MAX_MS; `undefined`: this kernel does not know it, either. */
  readonly rtoMaxMs: number | undefined;
  /** TCP_CONGESTION. */
  readonly congestion: string | undefined;
  /** SO_BINDTODEVICE; `undefined`: none. */
  readonly bindToDevice: string | undefined;
  /** SO_MARK. */
  readonly mark: number | undefined;
  /** SO_PRIORITY. */
  readonly priority: number | undefined;
  /** IP_TOS or IPV6_TCLASS, whichever the connection uses. */
  readonly tos: number | undefined;
  /** Names of the options that nobody asked for and that this kernel refused: they were skipped. */
  readonly unsupported: readonly string[];
}

/** Checked options with their defaults; made by {@linkcode validateSocketOptions}. */
export type ResolvedSocketOptions =
  & Pick<Required<SocketOptions>, "noDelay" | "rtoMaxMs">
  & Omit<SocketOptions, "noDelay" | "rtoMaxMs" | "keepAlive">
  & { readonly keepAlive: Required<KeepAliveOptions> | false };

// SOL_SOCKET
const SO_SNDBUF = 7;
const SO_KEEPALIVE = 9;
const SO_PRIORITY = 12;
const SO_DOMAIN = 39;
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
const TCP_NOTSENT_LOWAT = 25;
const TCP_RTO_MAX_MS = 44;

const INT_MAX = 2 ** 31 - 1;
/** IFNAMSIZ and TCP_CA_NAME_MAX are 16, with the closing NUL. */
const MAX_NAME_BYTES = 15;
const MAX_KEEPALIVE_MS = 32_767_000;
const ECN_BITS = 0x3;

/**
 * Checks options and fills in defaults. Makes no system call, so that a mistake
 * is found before anything is connected.
 *
 * @throws {RangeError} A value is out of range; names option and value.
 * @throws {TypeError} A value is of the wrong type.
 */
export function validateSocketOptions(options: SocketOptions = {}): ResolvedSocketOptions {
  const { noDelay = true, keepAlive = {}, rtoMaxMs = 1000, ...others } = options;
  if (typeof noDelay !== "boolean") {
    throw new TypeError(`Socket option noDelay must be true or false: ${String(noDelay)}.`);
  }
  checkInteger("rtoMaxMs", rtoMaxMs, 1000, 120_000);
  checkInteger("userTimeoutMs", others.userTimeoutMs, 0, INT_MAX);
  checkInteger("sendBufferBytes", others.sendBufferBytes, 1, (INT_MAX - 1) / 2);
  checkInteger("notSentLowWaterBytes", others.notSentLowWaterBytes, 1, INT_MAX);
  checkInteger("mark", others.mark, 0, 2 ** 32 - 1);
  checkInteger("priority", others.priority, 0, INT_MAX);
  checkInteger("tos", others.tos, 0, 255);
  if (others.tos !== undefined && (others.tos & ECN_BITS) !== 0) {
    throw new RangeError(
      `Socket option tos must be a multiple of 4, because its lower two bits belong to ECN: ` +
        `${others.tos}.`,
    );
  }
  checkName("congestion", others.congestion);
  checkName("bindToDevice", others.bindToDevice);
  return { ...others, noDelay, rtoMaxMs, keepAlive: keepAlive && resolveKeepAlive(keepAlive) };
}

function resolveKeepAlive(options: KeepAliveOptions): Required<KeepAliveOptions> {
  const { idleMs = 10_000, intervalMs = 3_000, count = 3 } = options;
  checkInteger("keepAlive.idleMs", idleMs, 1, MAX_KEEPALIVE_MS);
  checkInteger("keepAlive.intervalMs", intervalMs, 1, MAX_KEEPALIVE_MS);
  checkInteger("keepAlive.count", count, 1, 127);
  return { idleMs, intervalMs, count };
}

function checkInteger(option: string, value: number | undefined, min: number, max: number): void {
  if (value === undefined || (Number.isInteger(value) && value >= min && value <= max)) return;
  throw new RangeError(
    `Socket option ${option} must be a whole number from ${min} to ${max}: ${String(value)}.`,
  );
}

function checkName(option: string, value: string | undefined): void {
  if (value === undefined) return;
  // dev_valid_name() of the kernel; the names of congestion controls are plainer still.
  if (/^[^\s/:\0]+$/.test(value) && new TextEncoder().encode(value).length <= MAX_NAME_BYTES) {
    return;
  }
  throw new RangeError(
    `Socket option ${option} must be a name of 1 to ${MAX_NAME_BYTES} bytes ` +
      `without spaces, "/" and ":": ${JSON.stringify(value)}.`,
  );
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
 * Sets the options on a socket and reads back what the kernel took.
 *
 * @param fd A TCP socket.
 * @param options From {@linkcode validateSocketOptions}.
 * @param asked Those among them that the user gave: where the kernel refuses another one,
 *   the connection goes without.
 * @throws {SocketOptionError} The kernel refused one of those; names option and value.
 */
export function applySocketOptions(
  fd: number,
  options: ResolvedSocketOptions,
  asked: SocketOptions,
): EffectiveSocketOptions {
  const target: Target = { fd, asked, unsupported: [] };
  setInt(target, "noDelay", options.noDelay, IPPROTO_TCP, TCP_NODELAY, Number(options.noDelay));
  applyKeepAlive(target, options.keepAlive);
  setInt(target, "userTimeoutMs", options.userTimeoutMs, IPPROTO_TCP, TCP_USER_TIMEOUT);
  setInt(target, "sendBufferBytes", options.sendBufferBytes, SOL_SOCKET, SO_SNDBUF);
  const { notSentLowWaterBytes } = options;
  setInt(target, "notSentLowWaterBytes", notSentLowWaterBytes, IPPROTO_TCP, TCP_NOTSENT_LOWAT);
  setInt(target, "rtoMaxMs", options.rtoMaxMs, IPPROTO_TCP, TCP_RTO_MAX_MS);
  setName(target, "congestion", options.congestion, IPPROTO_TCP, TCP_CONGESTION);
  setInt(target, "mark", options.mark, SOL_SOCKET, SO_MARK);
  applyTos(target, options.tos);
  // After tos, which sets a priority of its own.
  setInt(target, "priority", options.priority, SOL_SOCKET, SO_PRIORITY);
  // Last, because from here on packets of another interface no longer reach the socket.
  setName(target, "bindToDevice", options.bindToDevice, SOL_SOCKET, SO_BINDTODEVICE);
  return readSocketOptions(target);
}

function applyKeepAlive(target: Target, keepAlive: Required<KeepAliveOptions> | false): void {
  if (keepAlive !== false) {
    const { idleMs, intervalMs, count } = keepAlive;
    const seconds = (milliseconds: number) => Math.ceil(milliseconds / 1000);
    setInt(target, "keepAlive.idleMs", idleMs, IPPROTO_TCP, TCP_KEEPIDLE, seconds(idleMs));
    setInt(
      target,
      "keepAlive.intervalMs",
      intervalMs,
      IPPROTO_TCP,
      TCP_KEEPINTVL,
      seconds(intervalMs),
    );
    setInt(target, "keepAlive.count", count, IPPROTO_TCP, TCP_KEEPCNT);
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
  if (value === undefined) return;
  const bytes = new TextEncoder().encode(`${value}\0`);
  if (libc().setsockopt(target.fd, level, name, bytes, bytes.byteLength) === 0) return;
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
  priority: "above 6 it needs CAP_NET_ADMIN or CAP_NET_RAW. Take 0 to 6, or give the process one.",
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
function readSocketOptions({ fd, unsupported }: Target): EffectiveSocketOptions {
  const tcp = (option: number) => getSocketInt(fd, IPPROTO_TCP, option);
  const socket = (option: number) => getSocketInt(fd, SOL_SOCKET, option);
  const noDelay = tcp(TCP_NODELAY);
  const notSentLowWaterBytes = tcp(TCP_NOTSENT_LOWAT);
  const mark = socket(SO_MARK);
  return {
    noDelay: noDelay === undefined ? undefined : noDelay !== 0,
    keepAlive: readKeepAlive(fd),
    userTimeoutMs: tcp(TCP_USER_TIMEOUT),
    sendBufferBytes: socket(SO_SNDBUF),
    notSentLowWaterBytes: notSentLowWaterBytes === undefined
      ? undefined
      : notSentLowWaterBytes >>> 0,
    rtoMaxMs: tcp(TCP_RTO_MAX_MS),
    congestion: getSocketName(fd, IPPROTO_TCP, TCP_CONGESTION),
    bindToDevice: getSocketName(fd, SOL_SOCKET, SO_BINDTODEVICE) || undefined,
    mark: mark === undefined ? undefined : mark >>> 0,
    priority: socket(SO_PRIORITY),
    tos: isIpv6Socket(fd)
      ? getSocketInt(fd, IPPROTO_IPV6, IPV6_TCLASS)
      : getSocketInt(fd, IPPROTO_IP, IP_TOS),
    unsupported,
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
