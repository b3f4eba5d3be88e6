/**
 * Causes on this host: asks the kernel for the link that carried a connection,
 * for the connection's own address, and for the route to its peer. Every answer is a hint for
 * people and for the verdict's name. Where asking fails, no fault is reported.
 *
 * One NETLINK_ROUTE socket per question, see rtnetlink(7): answers are in its
 * buffer when `send` returns, refusals carry their errno in the message itself, and
 * any user may ask. Unlike notifications and IFF_RUNNING, which come up to 0.85 s late,
 * IFLA_CARRIER is the driver's own flag at this moment.
 */

import type { LocalFault } from "../base/ports.ts";
import {
  AF_INET,
  AF_INET6,
  errnoName,
  IPPROTO_TCP,
  SO_BINDTODEVICE,
  SO_MARK,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOL_SOCKET,
} from "./constants.ts";
import {
  encodeSockaddr,
  type Endpoint,
  formatIpAddress,
  isIpv4,
  parseIpAddress,
} from "./ip_address.ts";
import { closeDescriptor, interfaceIndex, libc, setSocketInt, setSocketName } from "./libc.ts";

/** The way of a connection out of this host, as it was when it was noted. */
export interface LocalPath {
  readonly local: Endpoint;
  readonly remote: Endpoint;
  readonly remoteHostname: string;
  /** The interface; `undefined` where netlink did not answer. */
  readonly device: { readonly index: number; readonly name: string } | undefined;
  /** SO_BINDTODEVICE of the connection. */
  readonly bindToDevice: string | undefined;
  /** SO_MARK of the connection; 0: none. */
  readonly mark: number;
}

type NewPath = Omit<LocalPath, "device"> & Partial<LocalPath>;

/** What is bound to an interface stays on it, whatever the routes. */
function oifOf({ bindToDevice, device, remote }: NewPath): number {
  return (bindToDevice && device?.index) || remote.scopeId;
}

/** Notes the interface that a connection uses, anew while its peer is heard: routes change. */
export function captureLocalPath(path: NewPath): LocalPath {
  const device = withNetlink((netlink) => {
    const route = netlink.route(path.remote, { ...path, oif: oifOf(path) });
    if (route?.kind !== "route" || route.deviceIndex === 0) return undefined;
    const link = netlink.link(route.deviceIndex);
    return link?.kind === "link" ? { index: route.deviceIndex, name: link.name } : undefined;
  });
  return { ...path, device: device ?? path.device };
}

/**
 * Looks for a fault, nearest cause first: interface, carrier, address, route.
 *
 * @returns `undefined`: none found.
 */
export function findLocalFault(path: LocalPath): LocalFault | undefined {
  const answer = withNetlink((netlink) => askNetlink(netlink, path) ?? "none");
  if (answer === "none") return undefined;
  return answer ?? probeRouteByConnect(path);
}

export type RouteDescription =
  | {
    readonly kind: "route";
    readonly device: string;
    /** Whether it is administratively up. */
    readonly up: boolean;
    /** `undefined`: the kernel does not say. */
    readonly carrier: boolean | undefined;
    /** The next hop; `undefined`: the address is on the link, or on this host. */
    readonly gateway: string | undefined;
  }
  | {
    readonly kind: "no-route";
    /** Why not. */
    readonly words: string;
  };

/**
 * Asks the kernel which way a connection to an address leaves this host. Sends nothing.
 *
 * @param hostname The address as text, a link-local one with its zone.
 * @param port The peer's: policy routing may have rules for it (ip-rule(8), dport).
 * @param from This end, where it is known; port 0: any. There may be rules for it, too (from, sport).
 * @returns `undefined`: it is a name, or netlink is not permitted here.
 */
export function lookUpRoute(
  hostname: string,
  port: number,
  from?: { readonly hostname: string; readonly port: number },
): RouteDescription | undefined {
  const bare = bareAddress(hostname);
  const address = parseIpAddress(bare);
  if (address === undefined) return undefined;
  const [, zone] = bare.split("%");
  const oif = zone === undefined ? 0 : interfaceIndex(zone);
  const source = from && parseIpAddress(bareAddress(from.hostname).split("%", 1)[0] ?? "");
  return withNetlink((netlink) => {
    const local = from && source && { address: source, port: from.port, scopeId: oif };
    // From an address that is not ours the kernel refuses each route as a blackhole does.
    const isUsable = local && isIpv4(source) === isIpv4(address) && isOwn(netlink, local);
    const query = isUsable ? { local, oif } : { oif };
    const route = netlink.route({ address, port, scopeId: oif }, query);
    if (route?.kind === "refused") {
      return { kind: "no-route", words: routeWords(route.errno, hostname) } as const;
    }
    if (route?.kind !== "route" || route.deviceIndex === 0) return undefined;
    const link = netlink.link(route.deviceIndex);
    if (link?.kind !== "link") return undefined;
    const { name: device, up, carrier } = link;
    return { kind: "route", device, up, carrier, gateway: route.gateway } as const;
  });
}

function bareAddress(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, "");
}

/** An address is ours if the route to it ends here; where the kernel does not say, it may be. */
function isOwn(netlink: Netlink, { address, scopeId }: Endpoint): boolean {
  const route = netlink.route({ address, port: 0, scopeId }, {});
  return route === undefined || (route.kind === "route" && route.type === RTN_LOCAL);
}

function askNetlink(netlink: Netlink, path: LocalPath): LocalFault | undefined {
  const device = path.device?.name;
  if (path.device !== undefined) {
    const fault = linkFault(path.device.name, netlink.link(path.device.index));
    if (fault !== undefined) return fault;
  }
  if (!isOwn(netlink, path.local)) {
    return {
      kind: "address-gone",
      device,
      words: `the local address ${addressText(path.local)} was removed` +
        (device === undefined ? "" : ` from ${device}`),
    };
  }
  const route = netlink.route(path.remote, { ...path, oif: oifOf(path) });
  if (route?.kind === "refused") {
    return { kind: "no-route", device, words: routeWords(route.errno, path.remoteHostname) };
  }
  return undefined;
}

/** As the kernel names it: a listener that somebody asks about says `0.0.0.0` of its connections. */
function addressText({ address }: Endpoint): string {
  return formatIpAddress(isIpv4(address) ? address.subarray(12) : address);
}

function linkFault(name: string, link: LinkAnswer): LocalFault | undefined {
  if (link?.kind === "refused") {
    return { kind: "link-down", device: name, words: `${name} no longer exists` };
  }
  if (link?.kind !== "link") return undefined;
  const { name: device, up, carrier } = link;
  if (!up) return { kind: "link-down", device, words: `${device} is down` };
  return carrier === false
    ? { kind: "carrier-lost", device, words: `${device} has lost its carrier` }
    : undefined;
}

/** What a route of such a type is refused with. */
const ROUTE_TYPES: Readonly<Record<string, string>> = {
  EHOSTUNREACH: "unreachable",
  EACCES: "prohibit",
  EINVAL: "blackhole",
};

function routeWords(errno: number, hostname: string): string {
  const code = errnoName(errno);
  if (code === "ENETUNREACH") return `there is no route to ${hostname}`;
  const type = ROUTE_TYPES[code];
  return type === undefined
    ? `the kernel refuses a route to ${hostname} (${code})`
    : `the route to ${hostname} is of type ${type}`;
}

/**
 * Where netlink is not permitted: connects a UDP socket, which sends nothing,
 * and takes its return code. Says that there is no route, but not why.
 */
export function probeRouteByConnect(path: LocalPath): LocalFault | undefined {
  const family = isIpv4(path.remote.address) ? AF_INET : AF_INET6;
  const fd = libc().socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return undefined;
  try {
    const { bindToDevice } = path;
    if (bindToDevice && !setSocketName(fd, SOL_SOCKET, SO_BINDTODEVICE, bindToDevice)) return;
    if (path.mark !== 0 && !setSocketInt(fd, SOL_SOCKET, SO_MARK, path.mark)) return;
    const address = encodeSockaddr(path.remote);
    if (libc().connect(fd, address, address.byteLength) === 0) return undefined;
    return {
      kind: "no-route",
      device: undefined,
      words: `there is no usable route to ${path.remoteHostname}`,
    };
  } finally {
    closeDescriptor(fd);
  }
}

// include/uapi/linux/netlink.h, rtnetlink.h, if_link.h
const AF_NETLINK = 16;
const SOCK_RAW = 3;
const NETLINK_ROUTE = 0;
const NLMSG_ERROR = 2;
const NLMSG_HEADER_BYTES = 16;
const NLM_F_REQUEST = 1;
const RTM_NEWLINK = 16;
const RTM_GETLINK = 18;
const RTM_NEWROUTE = 24;
const RTM_GETROUTE = 26;
const RTMSG_BYTES = 12;
const IFINFOMSG_BYTES = 16;
const ATTRIBUTE_HEADER_BYTES = 4;
/** The upper two bits of an attribute's type are flags. */
const ATTRIBUTE_TYPE_MASK = 0x3fff;
const RTA_DST = 1;
const RTA_SRC = 2;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_MARK = 16;
// Since Linux 4.18, with the rules that ask for them; before, they are passed over.
const RTA_IP_PROTO = 27;
const RTA_SPORT = 28;
const RTA_DPORT = 29;
const RTN_LOCAL = 2;
const IFLA_IFNAME = 3;
const IFLA_EXT_MASK = 29;
const IFLA_CARRIER = 33;
const RTEXT_FILTER_SKIP_STATS = 8;
const IFF_UP = 1;
const MSG_DONTWAIT = 0x40;
const REQUEST_BYTES = 128;
/** A link's answer is about 1 KiB without statistics; name and carrier stand near its beginning. */
const ANSWER_BYTES = 16_384;

type Refused = { readonly kind: "refused"; readonly errno: number };
// `undefined`: nothing usable came back: no conclusion.
type RouteAnswer =
  | {
    readonly kind: "route";
    readonly type: number;
    readonly deviceIndex: number;
    readonly gateway: string | undefined;
  }
  | Refused
  | undefined;
type LinkAnswer =
  | {
    readonly kind: "link";
    readonly name: string;
    readonly up: boolean;
    readonly carrier: boolean | undefined;
  }
  | Refused
  | undefined;

interface RouteQuery {
  readonly local?: Endpoint;
  readonly mark?: number;
  readonly oif?: number | undefined;
}

const request = new DataView(new ArrayBuffer(REQUEST_BYTES));
const answer = new DataView(new ArrayBuffer(ANSWER_BYTES));

/**
 * Opens a netlink socket for the time of `use`. A socket kept open would cost a
 * descriptor for ever and save 6 of about 28 µs.
 *
 * @returns `undefined`: netlink is not permitted here, or `use` returned it.
 */
function withNetlink<T>(use: (netlink: Netlink) => T): T | undefined {
  const fd = libc().socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return undefined;
  try {
    return use(new Netlink(fd));
  } finally {
    closeDescriptor(fd);
  }
}

/** Questions to the kernel's routing and link tables. Buffers are shared: calls are synchronous. */
class Netlink {
  readonly #fd: number;
  #sequence = 0;
  #end = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** @param to With port 0 whatever goes there, otherwise TCP to that port. */
  route(to: Endpoint, { local, mark = 0, oif = 0 }: RouteQuery): RouteAnswer {
    const v4 = isIpv4(to.address);
    const bytesOf = ({ address }: Endpoint) => v4 ? address.subarray(12) : address;
    this.#begin(RTMSG_BYTES);
    request.setUint8(NLMSG_HEADER_BYTES, v4 ? AF_INET : AF_INET6);
    request.setUint8(NLMSG_HEADER_BYTES + 1, v4 ? 32 : 128); // rtm_dst_len
    this.#attribute(RTA_DST, bytesOf(to));
    if (local !== undefined) {
      request.setUint8(NLMSG_HEADER_BYTES + 2, v4 ? 32 : 128); // rtm_src_len
      this.#attribute(RTA_SRC, bytesOf(local));
    }
    if (oif !== 0) this.#attribute(RTA_OIF, uint32(oif));
    if (mark !== 0) this.#attribute(RTA_MARK, uint32(mark));
    if (to.port !== 0) {
      this.#attribute(RTA_IP_PROTO, new Uint8Array([IPPROTO_TCP]));
      this.#attribute(RTA_DPORT, networkOrder(to.port));
      if (local !== undefined && local.port !== 0) {
        this.#attribute(RTA_SPORT, networkOrder(local.port));
      }
    }
    const received = this.#ask(RTM_GETROUTE, RTM_NEWROUTE);
    if (typeof received !== "number") return received;
    const device = findAttribute(RTA_OIF, RTMSG_BYTES, received, 4);
    const gateway = findAttribute(RTA_GATEWAY, RTMSG_BYTES, received, v4 ? 4 : 16);
    return {
      kind: "route",
      type: answer.getUint8(NLMSG_HEADER_BYTES + 7),
      deviceIndex: device === undefined ? 0 : answer.getUint32(device, true),
      gateway: gateway === undefined
        ? undefined
        : formatIpAddress(new Uint8Array(answer.buffer, gateway, v4 ? 4 : 16)),
    };
  }

  /** An interface's name, and whether it is up and has a carrier. */
  link(index: number): LinkAnswer {
    this.#begin(IFINFOMSG_BYTES);
    request.setInt32(NLMSG_HEADER_BYTES + 4, index, true);
    this.#attribute(IFLA_EXT_MASK, uint32(RTEXT_FILTER_SKIP_STATS));
    const received = this.#ask(RTM_GETLINK, RTM_NEWLINK);
    if (typeof received !== "number") return received;
    const name = findAttribute(IFLA_IFNAME, IFINFOMSG_BYTES, received, 1);
    if (name === undefined) return undefined;
    const carrier = findAttribute(IFLA_CARRIER, IFINFOMSG_BYTES, received, 1);
    return {
      kind: "link",
      name: readName(name, received),
      up: (answer.getUint32(NLMSG_HEADER_BYTES + 8, true) & IFF_UP) !== 0,
      carrier: carrier === undefined ? undefined : answer.getUint8(carrier) !== 0,
    };
  }

  #begin(bodyBytes: number): void {
    new Uint8Array(request.buffer).fill(0);
    this.#end = NLMSG_HEADER_BYTES + bodyBytes;
  }

  #attribute(type: number, value: Uint8Array): void {
    request.setUint16(this.#end, ATTRIBUTE_HEADER_BYTES + value.byteLength, true);
    request.setUint16(this.#end + 2, type, true);
    new Uint8Array(request.buffer).set(value, this.#end + ATTRIBUTE_HEADER_BYTES);
    this.#end = align(this.#end + ATTRIBUTE_HEADER_BYTES + value.byteLength);
  }

  /** @returns How many bytes of the expected answer are in the buffer. */
  #ask(type: number, expected: number): number | Refused | undefined {
    const sequence = ++this.#sequence;
    request.setUint32(0, this.#end, true);
    request.setUint16(4, type, true);
    request.setUint16(6, NLM_F_REQUEST, true);
    request.setUint32(8, sequence, true);
    // Without an address a netlink socket sends to the kernel.
    const sent = libc().send(this.#fd, new Uint8Array(request.buffer), BigInt(this.#end), 0);
    if (Number(sent) !== this.#end) return undefined;
    const room = new Uint8Array(answer.buffer);
    const received = Number(libc().recv(this.#fd, room, BigInt(ANSWER_BYTES), MSG_DONTWAIT));
    if (received < NLMSG_HEADER_BYTES + 4 || answer.getUint32(8, true) !== sequence) {
      return undefined;
    }
    const answered = answer.getUint16(4, true);
    if (answered === NLMSG_ERROR) {
      const errno = -answer.getInt32(NLMSG_HEADER_BYTES, true);
      return errno > 0 ? { kind: "refused", errno } : undefined;
    }
    return answered === expected ? received : undefined;
  }
}

function align(offset: number): number {
  return (offset + 3) & ~3;
}

function uint32(value: number): Uint8Array {
  return new Uint8Array(new Uint32Array([value]).buffer);
}

function networkOrder(port: number): Uint8Array {
  return new Uint8Array([port >>> 8, port & 0xff]);
}

/** @returns The offset of the attribute's value, if it is there with at least `minBytes`. */
function findAttribute(
  type: number,
  bodyBytes: number,
  received: number,
  minBytes: number,
): number | undefined {
  let offset = NLMSG_HEADER_BYTES + bodyBytes;
  while (offset + ATTRIBUTE_HEADER_BYTES <= received) {
    const length = answer.getUint16(offset, true);
    if (length < ATTRIBUTE_HEADER_BYTES) return undefined;
    const found = (answer.getUint16(offset + 2, true) & ATTRIBUTE_TYPE_MASK) === type;
    if (found && length >= ATTRIBUTE_HEADER_BYTES + minBytes && offset + length <= received) {
      return offset + ATTRIBUTE_HEADER_BYTES;
    }
    offset = align(offset + length);
  }
  return undefined;
}

function readName(offset: number, received: number): string {
  const rest = new Uint8Array(answer.buffer, offset, received - offset);
  return new TextDecoder().decode(rest.subarray(0, rest.indexOf(0)));
}
