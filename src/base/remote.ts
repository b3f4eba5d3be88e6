/**
 * Where a sender sends: a server on the network, or one on this host.
 *
 * @category Delivery
 */
export type Remote = HostRemote | UnixRemote;

/**
 * A server on the network.
 *
 * @category Delivery
 */
export interface HostRemote {
  /**
   * A name or a literal address; IPv6 without brackets, a link-local address with
   * its zone: `fe80::1%eth0`.
   */
  readonly hostname: string;
  /** 1 to 65535. */
  readonly port: number;
  /**
   * Whether the server connects to us, and we listen there.
   *
   * @default {false}
   */
  readonly listen?: boolean;
  /**
   * Who may connect to us, such as `"192.0.2.7"` and `"10.0.0.0/8"`; everybody, unless given.
   */
  readonly allowFrom?: readonly string[];
  /**
   * `"tls"` speaks TLS over TCP.
   *
   * @default {"tcp"}
   */
  readonly scheme?: "tcp" | "tls";
  /**
   * Where to go, in this order, when this one cannot be reached, refuses, stalls or is dead;
   * each with the same scheme.
   */
  readonly standbys?: readonly Remote[];
}

/**
 * A server on this host that listens on a Unix socket, of the kind that carries a stream.
 *
 * @category Delivery
 */
export interface UnixRemote {
  /** Tells it from a server on the network. */
  readonly scheme: "unix";
  /**
   * The whole path of the socket's file, of at most 107 bytes. An abstract socket, such as
   * `@name`, has no owner and no rights, and is not taken.
   */
  readonly path: string;
  /** Where to go when this one cannot be reached, as with {@linkcode HostRemote.standbys}. */
  readonly standbys?: readonly Remote[];
  /** Nobody connects to us over a Unix socket. */
  readonly listen?: false;
}

/** Of `struct sockaddr_un`, less the 0 behind it (unix(7)). */
const UNIX_PATH_BYTES = 107;

/**
 * Reads a remote from a URL.
 *
 * @category Dialer
 * @param url `tcp://host:port`, `tls://host:port`, `unix:path`, several of one kind with commas
 *   between them, the preferred one first, or `listen://host:port?from=address,network/bits` for
 *   a server that connects to us; IPv6 literals in brackets. A zone follows `%` or, as RFC 6874
 *   has it, `%25`. A name in other letters than ASCII becomes punycode.
 * @throws {TypeError} It is not such a URL; the message says what is expected.
 *
 * @example
 * ```ts
 * import { parseRemote } from "@sendq/sendq/advanced";
 * import assert from "node:assert/strict";
 *
 * assert.deepEqual(parseRemote("tcp://[::1]:4000"), { hostname: "::1", port: 4000 });
 * assert.deepEqual(parseRemote("unix:/run/app.sock"), { scheme: "unix", path: "/run/app.sock" });
 * ```
 */
export function parseRemote(url: string): Remote {
  return withStandbys(url.split(/, *(?=[a-z]+:\/\/|unix:)/).map(parseOne));
}

/**
 * Several remotes as one, the preferred one first.
 *
 * @throws {TypeError} They are of several kinds, one comes twice, or one connects to us.
 */
export function withStandbys(remotes: readonly Remote[]): Remote {
  // One of a list may be several by itself.
  const [first, ...standbys] = remotes.flatMap(({ standbys = [], ...one }) => [one, ...standbys]);
  if (first === undefined) throw new TypeError("there is no remote");
  if (standbys.length === 0) return first;
  const all = [first, ...standbys].map((remote) => formatRemote(remote));
  const schemes = new Set(all.map((url) => url.slice(0, url.indexOf(":"))));
  if (schemes.size > 1 || schemes.has("listen")) {
    throw new TypeError(
      `${all.join(",")}: several remotes are all tcp://, all tls:// or all unix:, and ` +
        `none is listen://`,
    );
  }
  const twice = all.find((url, i) => all.indexOf(url) < i);
  if (twice !== undefined) throw new TypeError(`${twice} is there twice`);
  return { ...first, standbys };
}

function parseOne(url: string): Remote {
  if (url.startsWith("unix:")) return parseUnix(url);
  const wrong = (what: string) =>
    new TypeError(
      `"${url}" ${what}; expected tcp://HOST:PORT, tls://HOST:PORT or unix:PATH, for example ` +
        `tcp://192.0.2.7:4000 or tls://[::1]:6514`,
    );
  // Without its scheme, "legacy:4000" is a URL as well: its scheme is legacy.
  if (!/^\s*(tcp|tls|listen):\/\//i.test(url)) throw wrong("has no scheme that sendq speaks");
  // URLs know no zones: it is taken out before and put back after.
  const zone = /^[^/]*\/\/\[[^\]%]*(%[^\]]*)\]/.exec(url)?.[1] ?? "";
  const parsed = URL.parse(zone === "" ? url : url.replace(zone, ""));
  if (parsed === null) throw wrong("has a host or a port that cannot be");
  const isListen = parsed.protocol === "listen:";
  const from = isListen ? /^\?from=([\w.:,/%]+)$/.exec(parsed.search)?.[1] : undefined;
  const extras = parsed.username + parsed.password +
    (from === undefined ? parsed.search : "") + parsed.hash +
    parsed.pathname.replace(/^\/$/, "");
  if (extras !== "") throw wrong("has more than host and port");
  if (parsed.hostname === "") throw wrong("has no host");
  const port = Number(parsed.port);
  if (parsed.port === "" || port === 0) throw wrong("has no usable port");
  const hostname = normalizeHostname(parsed.hostname.replace(/\]$/, `${zone}]`));
  return {
    hostname,
    port,
    ...(parsed.protocol === "tls:" ? { scheme: "tls" as const } : {}),
    ...(isListen ? { listen: true } : {}),
    ...(from === undefined ? {} : { allowFrom: from.split(",") }),
  };
}

/** `unix:/PATH`, or with `//` before the path, as in a URL. */
function parseUnix(url: string): UnixRemote {
  const path = url.slice("unix:".length).replace(/^\/\/(?=\/)/, "");
  return { scheme: "unix", path: checkUnixPath(path) };
}

/**
 * The path of a Unix socket, checked. It has to be whole, as a permission names it.
 *
 * @throws {TypeError} It is none; the message says why.
 */
export function checkUnixPath(path: string): string {
  if (typeof path !== "string" || !/^\/(?!\/)[^\0]*$/.test(path)) {
    throw new TypeError(
      `${JSON.stringify(path)} is not the whole path of a socket's file; expected unix:PATH, ` +
        `for example unix:/run/app.sock (abstract sockets, which have no file, are not taken)`,
    );
  }
  const bytes = new TextEncoder().encode(path).length;
  if (bytes > UNIX_PATH_BYTES) {
    throw new TypeError(
      `"${path}" has ${bytes} bytes, the path of a Unix socket at most ${UNIX_PATH_BYTES}: ` +
        `reach it by a symbolic link to its directory`,
    );
  }
  return path;
}

/**
 * The URL of a remote.
 *
 * @category Dialer
 */
export function formatRemote(remote: Remote): string {
  const { standbys = [] } = remote;
  return [formatOne(remote), ...standbys.map(formatRemote)].join(",");
}

function formatOne(remote: Remote): string {
  if (remote.scheme === "unix") return `unix:${remote.path}`;
  const { hostname, port, listen = false, scheme = "tcp" } = remote;
  return `${listen ? "listen" : scheme}://${formatHostPort(hostname, port)}`;
}

/** Writes `"192.0.2.1:4000"` or `"[2001:db8::1]:4000"`. */
export function formatHostPort(hostname: string, port: number): string {
  const bare = hostname.replace(/^\[|\]$/g, "");
  return bare.includes(":") ? `[${bare}]:${port}` : `${bare}:${port}`;
}

/**
 * The spelling of a host that resolvers, permissions and `Deno.connect` take: IPv6 without
 * brackets, other letters than ASCII as punycode, the zone behind `%`.
 *
 * @throws {TypeError} It is none; the message says what is wrong.
 */
export function normalizeHostname(hostname: string): string {
  const bare = hostname.replace(/^\[(.*)\]$/, "$1");
  return bare.includes(":") ? normalizeIpv6(bare) : normalizeName(bare);
}

function normalizeName(name: string): string {
  if (/^[\w.-]+$/.test(name)) return name;
  // The scheme's own rules: only those of http turn a name into punycode.
  const ascii = /[\s/?#@\\]/.test(name) ? undefined : URL.parse(`http://${name}`)?.hostname;
  if (ascii === undefined || !/^[\w.-]+$/.test(ascii)) {
    throw new TypeError(
      `"${name}" is neither a name nor an address: letters, digits, "-", "_" and "." make a name`,
    );
  }
  return ascii;
}

/**
 * An interface's name of up to 15 characters, or its number. `%25` before a name is
 * `%` as URLs write it; before a digit it is the beginning of a number.
 */
const ZONE = /^%(?:25(?=\D))?([^\s/:%[\]]{1,15})$/;

function normalizeIpv6(text: string): string {
  const percent = text.indexOf("%");
  const address = URL.parse(`tcp://[${percent < 0 ? text : text.slice(0, percent)}]`)?.hostname
    .slice(1, -1);
  if (address === undefined) throw new TypeError(`"${text}" is not an IPv6 address`);
  // fe80::/10: the same on every link, so the link has to be named.
  const linkLocal = /^fe[89ab]/.test(address);
  if (percent < 0 && !linkLocal) return address;
  const zone = percent < 0 ? undefined : ZONE.exec(text.slice(percent))?.[1];
  if (linkLocal && zone !== undefined) return `${address}%${zone}`;
  throw new TypeError(
    linkLocal
      ? `"${text}" is a link-local address and needs the interface that it lies on, ` +
        `for example ${address}%eth0 (ip link)`
      : `"${text}" has a zone, which belongs to link-local addresses (fe80::…) only`,
  );
}
