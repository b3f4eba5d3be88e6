/** A proxy on the way to the server. */

import { OptionError } from "./errors.ts";
import { VIA_OPTIONS } from "./option_table.ts";
import { checkFields, resolveOptions } from "./options.ts";
import { formatHostPort, parseRemote } from "./remote.ts";

/**
 * The proxy that connections to the server go through.
 *
 * @category Delivery
 */
export interface ViaOptions {
  /**
   * `socks5://host:port` (RFC 1928; `socks5h://` means the same) or `http://host:port` for
   * CONNECT. `user:password@` before the host are credentials, percent-encoded; nothing
   * shows them again. The proxy looks the server's name up.
   */
  readonly url: string;
  /** `user:password`, as it is and not encoded, instead of in the URL. */
  readonly credentials?: string;
  /**
   * How long the proxy may take, once it is connected to, until it says that the server is.
   *
   * @default {10000}
   */
  readonly handshakeTimeoutMs?: number;
}

export interface ProxyCredentials {
  readonly username: string;
  readonly password: string;
}

/** A proxy in its parts. */
export interface ProxyServer {
  readonly scheme: "socks5" | "http";
  /** A name or an address, IPv6 without brackets. */
  readonly hostname: string;
  readonly port: number;
  readonly credentials?: ProxyCredentials;
  readonly handshakeTimeoutMs: number;
}

/** What a username and a password have room for in SOCKS5 (RFC 1929). */
const MAX_SOCKS_BYTES = 255;

/**
 * Reads what a proxy is given as. No message shows the URL: it may hold a password.
 *
 * @throws {OptionError} It is none, or a value is out of range.
 */
export function proxyOf(via: string | ViaOptions): ProxyServer {
  const given = typeof via === "string" ? { url: via } : via;
  checkFields("via", given, [VIA_OPTIONS]);
  const { url = "", credentials: apart, handshakeTimeoutMs } = resolveOptions(
    VIA_OPTIONS,
    given,
    "via.",
  );
  const [, scheme = "", rest = ""] = /^([a-z0-9+.-]+):\/\/(.*)$/is.exec(url) ?? [];
  const kind = /^socks5h?$/i.test(scheme) ? "socks5" : /^http$/i.test(scheme) ? "http" : undefined;
  if (kind === undefined) {
    // A scheme is no secret where it is one: what has no "://" may be anything.
    const got = scheme === "" ? "" : `; it begins with ${scheme}://`;
    throw wrong(`${EXPECTED}${got}`);
  }
  const at = rest.lastIndexOf("@");
  const { hostname, port } = endOf(rest.slice(at + 1));
  const inUrl = at < 0 ? undefined : decoded(rest.slice(0, at));
  if (inUrl !== undefined && apart !== undefined) {
    throw new OptionError("via.credentials", null, "must be left out where via.url has some");
  }
  const credentials = inUrl ?? (apart === undefined ? undefined : split(apart, "via.credentials"));
  if (credentials !== undefined) check(credentials, kind, inUrl ? "via.url" : "via.credentials");
  return {
    scheme: kind,
    hostname,
    port,
    handshakeTimeoutMs,
    ...(credentials === undefined ? {} : { credentials }),
  };
}

/** The URL of a proxy, without its credentials. */
export function formatProxy(
  { scheme, hostname, port }: Pick<ProxyServer, "scheme" | "hostname" | "port">,
): string {
  return `${scheme}://${formatHostPort(hostname, port)}`;
}

const EXPECTED = "must be socks5://HOST:PORT or http://HOST:PORT, with USER:PASSWORD@ before the " +
  "host where the proxy wants them";

function wrong(rule: string, option = "via.url"): OptionError {
  return new OptionError(option, null, rule);
}

/** As of a remote, whose messages would show all of it. */
function endOf(text: string): { readonly hostname: string; readonly port: number } {
  try {
    const end = parseRemote(`tcp://${text}`);
    if (end.scheme !== "unix" && end.standbys === undefined) {
      return { hostname: end.hostname, port: end.port };
    }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
  }
  throw wrong(EXPECTED);
}

function split(text: string, option: string): ProxyCredentials {
  if (/[\r\n]/.test(text)) throw wrong("must be one line, USER:PASSWORD", option);
  const colon = text.indexOf(":");
  if (colon < 1) throw wrong("must be USER:PASSWORD", option);
  return { username: text.slice(0, colon), password: text.slice(colon + 1) };
}

function decoded(text: string): ProxyCredentials {
  const { username, password } = split(text, "via.url");
  try {
    return { username: decodeURIComponent(username), password: decodeURIComponent(password) };
  } catch (error) {
    if (!(error instanceof URIError)) throw error;
    throw wrong("must have its credentials percent-encoded: % is written %25, @ is %40");
  }
}

function check({ username, password }: ProxyCredentials, kind: string, option: string): void {
  if (kind === "socks5") {
    const tooLong = [username, password].some((text) =>
      new TextEncoder().encode(text).length > MAX_SOCKS_BYTES
    );
    if (tooLong) {
      throw wrong(
        `must have a user and a password of ${MAX_SOCKS_BYTES} bytes at most for SOCKS5`,
        option,
      );
    }
  } else if (username.includes(":")) {
    throw wrong("must have a user without a colon: HTTP takes what is behind it for the password");
  }
}
