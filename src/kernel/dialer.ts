/**
 * Makes TCP connections with `Deno.connect`, so that `--allow-net`, DNS and
 * Happy Eyeballs hold, and tunes their sockets.
 */

import { SocketOptionError, WireError, wireError } from "../base/errors.ts";
import type { Dialer } from "../base/ports.ts";
import { formatHostPort, normalizeHostname } from "../base/remote.ts";
import { onAbort } from "../base/waits.ts";
import { duplicateDescriptor, nextDescriptorHint } from "./descriptor.ts";
import { sameEndpoint } from "./ip_address.ts";
import { closeDescriptor, loadLibc } from "./libc.ts";
import { captureLocalPath, lookUpRoute } from "./local_fault.ts";
import { hasAddress, lookUpTurns } from "./look_up.ts";
import {
  applySocketOptions,
  type ResolvedSocketOptions,
  type SocketOptions,
  validateSocketOptions,
} from "./socket_options.ts";
import { isAddress, parseSource, type Source } from "./source.ts";
import { type ByteConn, resetConnection, TcpWire } from "./tcp_wire.ts";
import { NO_PORT, OUT_OF_DESCRIPTORS, toWireError } from "./wire_error.ts";

/**
 * Where to and how {@linkcode tcpDialer} dials.
 *
 * @category Dialer
 */
export interface TcpDialerOptions {
  /**
   * A name, an IPv4 address, or an IPv6 address with or without brackets; a link-local
   * one with its zone.
   */
  readonly hostname: string;
  /** 1 to 65,535. */
  readonly port: number;
  /** How each connection's socket is tuned. */
  readonly socket?: SocketOptions;
  /** The path of the C library, where it is none of the known ones. */
  readonly libc?: string;
  /** What to set beside, unless the kernel refuses it. */
  readonly socketDefaults?: SocketOptions;
  /**
   * The address of this host that connections come from, perhaps with a port:
   * `"192.0.2.1"`, `"[2001:db8::1]:5000"`.
   *
   * @default {undefined} the address that the route has, any port
   */
  readonly source?: string;
}

/**
 * A {@linkcode Dialer} whose wires are {@linkcode TcpWire}s.
 *
 * @category Dialer
 */
export interface TcpDialer extends Dialer {
  /** Makes one attempt and tunes the socket; see {@linkcode Dialer.dial}. */
  dial(...how: Parameters<Dialer["dial"]>): Promise<TcpWire>;
}

/**
 * A dialer for one TCP server. Loads the C library, so that what is missing is
 * said before anything is connected.
 *
 * @category Dialer
 * @throws {RangeError} Port or socket option out of range.
 * @throws {TypeError} A value is of the wrong type.
 * @throws {UnsupportedPlatformError} Not Linux on x86_64 or aarch64.
 * @throws {Deno.errors.NotCapable} `--allow-ffi` lacks the C library's path.
 *
 * @example
 * ```ts
 * import { tcpDialer } from "@sendq/sendq/advanced";
 *
 * using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
 * const accepted = listener.accept();
 * const { hostname, port } = listener.addr;
 * const dialer = tcpDialer({ hostname, port, socket: { noDelay: false } });
 * const wire = await dialer.dial(AbortSignal.timeout(1000));
 * using server = await accepted;
 * await wire.write(new TextEncoder().encode("hello"));
 * await server.read(new Uint8Array(5));
 * wire.sample().bytesAcked; // 6 once all is acknowledged: the SYN counts
 * wire.shutdownWrite();
 * wire.close();
 * ```
 */
export function tcpDialer(
  { hostname, port, socket = {}, socketDefaults = {}, libc: libcPath, source }: TcpDialerOptions,
): TcpDialer {
  if (typeof hostname !== "string" || hostname === "") {
    throw new TypeError(`hostname must be a name or an address: ${JSON.stringify(hostname)}.`);
  }
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw new RangeError(`port must be a whole number from 1 to 65535: ${String(port)}.`);
  }
  const host = normalizeHostname(hostname);
  const options = validateSocketOptions({ ...socketDefaults, ...socket });
  const from = source === undefined ? undefined : parseSource(source);
  loadLibc(libcPath);
  const address = formatHostPort(host, port);
  let optionsWereTaken = false;
  return {
    remote: `tcp://${address}`,
    async dial(signal, onLookedUp) {
      signal.throwIfAborted();
      const hint = nextDescriptorHint();
      const conn = await connect(from, host, port, signal, onLookedUp);
      try {
        const wire = adopt(conn, hint, options, socket, (...parts) => new TcpWire(...parts));
        optionsWereTaken = true;
        return wire;
      } catch (error) {
        conn.close(); // Nothing was written, so nothing can arrive late.
        // An interface comes and goes (a modem, a tunnel), and what the kernel took
        // once, it may take again: only what was wrong from the start is a mistake.
        if (optionsWereTaken && error instanceof SocketOptionError) {
          throw new WireError("SOCKET_OPTION", error.message, { cause: error });
        }
        throw error;
      }
    },
  };
}

type Open = (
  end: { readonly hostname: string; readonly port: number; readonly signal: AbortSignal },
) => Promise<ByteConn>;

/** Who has no source loads nothing for it. */
function openerFrom(source: Source | undefined): Open {
  if (source === undefined) return connectOrNot;
  return async (end) => {
    const { connectFrom } = await import("./bound_socket.ts");
    return await connectFrom(source, end);
  };
}

/**
 * Deno's `connect`, which leaves nothing behind. Once it is connected it asks its signal whether it
 * was aborted meanwhile, and throws then: nobody could ever close that connection, and a server
 * that serves one client at a time would wait for it. So it gets a signal that does not throw.
 */
async function connectOrNot({ hostname, port, signal }: Parameters<Open>[0]): Promise<ByteConn> {
  signal.throwIfAborted();
  const controller = new AbortController();
  Object.defineProperty(controller.signal, "throwIfAborted", { value: () => {} });
  const forget = onAbort(signal, () => controller.abort());
  try {
    return await Deno.connect({ hostname, port, signal: controller.signal });
  } finally {
    forget();
  }
}

/** Ends with the signal's reason at abort; a connection that is made all the same is closed. */
function connect(
  from: Source | undefined,
  hostname: string,
  port: number,
  signal: AbortSignal,
  onLookedUp: (() => void) | undefined,
): Promise<ByteConn> {
  return new Promise((resolve, reject) => {
    let ended = false;
    const forget = onAbort(signal, () => {
      ended = true;
      reject(signal.reason);
    });
    const onKnown = () => {
      if (!ended) onLookedUp?.();
    };
    const asks = onLookedUp !== undefined;
    inTurn(openerFrom(from), { hostname, port, signal }, asks, onKnown).then((conn) => {
      if (ended) conn.close();
      else resolve(conn);
    }, (error) => reject(describeFailure(error, hostname, port, from))).finally(() => {
      ended = true;
      forget();
    });
  });
}

/**
 * Opens once the name may be looked up. A failed look-up is not told here: Deno's own fails with
 * it, and ends the attempt.
 *
 * @param asks Whether to ask beside it, so that it is known when there is an address.
 */
async function inTurn(
  open: Open,
  end: Parameters<Open>[0],
  asks: boolean,
  onKnown: () => void,
): Promise<ByteConn> {
  const { hostname, signal } = end;
  if (isAddress(hostname)) {
    onKnown();
    return await open(end);
  }
  const over = await lookUpTurns.next(hostname, signal);
  if (asks) {
    void hasAddress(hostname).then((found) => {
      over(found);
      if (found) onKnown();
    }, () => over(false));
  }
  try {
    return await open(end);
  } finally {
    if (!asks) over(true);
  }
}

/**
 * Says in words why an attempt failed. Only a missing permission stays what it is:
 * everything else may be gone at the next attempt, whatever class JavaScript has
 * for it (a blackhole route is a TypeError).
 */
function describeFailure(
  error: unknown,
  hostname: string,
  port: number,
  from: Source | undefined,
): unknown {
  if (error instanceof Deno.errors.NotCapable || error instanceof WireError) return error;
  // For a failed look-up Deno has no class and no code, only gai_strerror(3)'s words.
  const lookUp = error instanceof Error &&
    /^failed to lookup address[^:]*: (.*)/.exec(error.message);
  if (lookUp) return lookUpError(hostname, lookUp[1] ?? "", error);
  const failure = toWireError(error);
  const route = ROUTE_ERRORS.has(failure.code) ? lookUpRoute(hostname, port, from) : undefined;
  if (route?.kind === "no-route") {
    return wireError(failure.code, route.words, error);
  }
  const { code } = failure;
  switch (code) {
    case "EACCES": // Deno's "permission denied" would be looked for among its flags.
      return wireError(code, "a firewall on the way, or this host's own rules, prohibit it", error);
    case "EADDRNOTAVAIL":
      return wireError(code, `this host has no address for it, or ${NO_PORT}`, error);
    case "EMFILE":
      return new WireError(code, OUT_OF_DESCRIPTORS, { cause: error });
    default:
      return failure;
  }
}

/** Words of glibc and of musl for EAI_AGAIN: no nameserver answered, or none of them could. */
const TRY_AGAIN = /^temporary failure|^try again/i;

function lookUpError(hostname: string, words: string, cause: Error): WireError {
  const failed = (code: string, why: string) =>
    new WireError(code, `${hostname} could not be looked up: ${why}`, { cause });
  if (nextDescriptorHint() === undefined) return failed("EMFILE", OUT_OF_DESCRIPTORS);
  const [, zone] = hostname.split("%");
  if (zone !== undefined) {
    return new WireError("ENODEV", `there is no interface ${zone} (ip link)`, { cause });
  }
  return TRY_AGAIN.test(words)
    ? failed("EAI_AGAIN", "no nameserver of /etc/resolv.conf could tell (EAI_AGAIN)")
    : failed("ENOTFOUND", "there is no such name, or it has no address (ENOTFOUND)");
}

/** What `connect` ends with at once where this host's own routes forbid it (kernel_facts, 6.1). */
const ROUTE_ERRORS: ReadonlySet<string> = new Set([
  "EACCES",
  "EHOSTUNREACH",
  "EINVAL",
  "ENETUNREACH",
]);

/**
 * Makes a wire of a connection, and tunes its socket.
 *
 * @param conn Still the caller's where this throws.
 * @param hint From {@linkcode nextDescriptorHint}, before the connection was made.
 * @param asked Those of the options that were asked for, and have to be taken.
 * @throws {WireError} It has ended already, or leads where it should not.
 */
export function adopt<W extends TcpWire>(
  conn: ByteConn,
  hint: number | undefined,
  options: ResolvedSocketOptions,
  asked: SocketOptions,
  make: (...parts: ConstructorParameters<typeof TcpWire>) => W,
): W {
  const found = duplicateDescriptor(conn, hint ?? 0);
  const remote = formatHostPort(conn.remoteAddr.hostname, conn.remoteAddr.port);
  if (found.kind === "dead") {
    throw new WireError(
      found.errorName ?? "ECONNRESET",
      `${remote} accepted the connection and ended it at once.`,
    );
  }
  try {
    if (sameEndpoint(found.local, found.remote)) throw selfConnected(found.fd, remote);
    const effective = applySocketOptions(found.fd, options, asked);
    const { bindToDevice } = options;
    const path = captureLocalPath({
      local: found.local,
      remote: found.remote,
      remoteHostname: conn.remoteAddr.hostname,
      bindToDevice,
      mark: options.mark ?? 0,
    });
    if (bindToDevice !== undefined && path.device && path.device.name !== bindToDevice) {
      throw new WireError(
        "ENETUNREACH",
        `The route to ${remote} leads over ${path.device.name}, bindToDevice is ${bindToDevice}. ` +
          `Add a route over ${bindToDevice}, or leave bindToDevice out.`,
      );
    }
    return make(conn, found.fd, path, effective);
  } catch (error) {
    closeDescriptor(found.fd);
    throw error;
  }
}

/**
 * TCP's simultaneous open lets a socket connect to itself: while nobody listens
 * on a port of this host, an attempt may be given that very port as its own.
 * The kernel would then acknowledge to us what we send to ourselves. The reset
 * gives the port back at once, which a FIN would keep in TIME_WAIT for a minute
 * and the server could not bind. Where the kernel refuses it, that minute has to pass.
 */
function selfConnected(fd: number, remote: string): WireError {
  resetConnection(fd);
  return new WireError(
    "SELF_CONNECTED",
    `nobody listens on ${remote}: the kernel connected the socket to itself, because the port ` +
      `lies in its range for outgoing connections; start the server, or give it a port outside ` +
      `of net.ipv4.ip_local_port_range`,
  );
}
