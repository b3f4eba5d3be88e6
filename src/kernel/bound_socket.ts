/**
 * Connects from a chosen address of this host, which `Deno.connect` does not know, with
 * `node:net`; what comes of it is used as a `Deno.TcpConn` is. Loaded only by whoever has
 * chosen one.
 */

import { connect, type Socket } from "node:net";
import { getSystemErrorMessage } from "node:util";
import { WireError, wireError } from "../base/errors.ts";
import { formatHostPort } from "../base/remote.ts";
import { onAbort } from "../base/waits.ts";
import { parseIpAddress } from "./ip_address.ts";
import { mayReach, type Source } from "./source.ts";
import type { ByteConn } from "./tcp_wire.ts";
import { NO_PORT } from "./wire_error.ts";

/**
 * `node:net` says that a write is over once all of it was taken, and until then nothing of it is
 * watched. So small a write finds room at once where nothing is under way, whatever SO_SNDBUF is
 * (kernel_facts, section 8).
 */
const MAX_WRITE_BYTES = 4096;

/**
 * Connects, and ends with the signal's reason as soon as it is aborted. Of a name with
 * several addresses, the first one of the source's kind is tried.
 *
 * @throws {WireError} This host has no such address, or its port is in use.
 * @throws {Deno.errors.NotCapable} `--allow-net` lacks one of the two ends.
 */
export function connectFrom(
  source: Source,
  { hostname, port, signal }: {
    readonly hostname: string;
    readonly port: number;
    readonly signal: AbortSignal;
  },
): Promise<BoundSocket> {
  signal.throwIfAborted();
  assertGranted(source, hostname, port);
  if (!mayReach(source, hostname)) {
    throw new WireError(
      "EAFNOSUPPORT",
      `${hostname} cannot be reached from ${source.hostname}: one is IPv4, the other is IPv6, or it has a zone`,
    );
  }
  return new Promise((resolve, reject) => {
    const socket = connect({
      host: hostname,
      port,
      localAddress: source.hostname,
      ...(source.port === 0 ? {} : { localPort: source.port }),
      family: source.family,
      autoSelectFamily: false,
      allowHalfOpen: true,
    });
    const settle = () => {
      socket.off("error", onError);
      forget();
    };
    const forget = onAbort(signal, () => {
      settle();
      // What it still says is nobody's.
      socket.on("error", () => {});
      socket.destroy();
      reject(signal.reason);
    });
    const onError = (error: Error) => {
      settle();
      reject(inWords(error, source, hostname));
    };
    socket.once("error", onError);
    socket.once("connect", () => {
      settle();
      resolve(new BoundSocket(socket));
    });
  });
}

/** `node:net` throws what is not granted where nobody can catch it. */
function assertGranted(source: Source, hostname: string, port: number): void {
  // It looks a name up for every port of the host.
  const isName = parseIpAddress(hostname) === undefined;
  const ends = [
    isName ? hostname : formatHostPort(hostname, port),
    formatHostPort(source.hostname, source.port),
  ];
  const missing = ends.filter((host) =>
    Deno.permissions.querySync({ name: "net", host }).state !== "granted"
  );
  if (missing.length === 0) return;
  throw new Deno.errors.NotCapable(
    `Requires net access to connect from ${source.hostname}: run again with ` +
      `--allow-net=${missing.join(",")}.`,
  );
}

/** Deno gives EINVAL for the kernel's EADDRNOTAVAIL. */
function inWords(error: Error, source: Source, hostname: string): unknown {
  const code = "code" in error ? error.code : undefined;
  const syscall = "syscall" in error ? error.syscall : undefined;
  const from = formatHostPort(source.hostname, source.port);
  if (syscall === "getaddrinfo" && code === "ENOTFOUND") {
    return wireError(
      code,
      `${hostname} could not be looked up: there is no such name, or it has no address of ` +
        `IPv${source.family}, as ${source.hostname} is`,
      error,
    );
  }
  if (syscall === "bind" && (code === "EINVAL" || code === "EADDRNOTAVAIL")) {
    const unusable = source.family === 6
      ? ", or may not use it (ip address: tentative, dadfailed)"
      : " (ip address)";
    const words = `this host has no address ${source.hostname} now${unusable}`;
    return wireError("EADDRNOTAVAIL", words, error);
  }
  if (code === "EADDRINUSE" || (source.port !== 0 && syscall === "connect" && code === "EINVAL")) {
    const words = source.port === 0
      ? `${source.hostname} has ${NO_PORT}`
      : `${from} is in use: by another socket, or for a minute by a connection from there that ` +
        `has ended`;
    return wireError("EADDRINUSE", words, error);
  }
  return plainly(error);
}

/** The kernel's words, as Deno's own connections have them, instead of Node's. */
function plainly(error: Error): Error {
  const { code, errno } = { code: undefined, errno: undefined, ...error };
  if (typeof code !== "string" || typeof errno !== "number") return error;
  return Object.assign(new Error(getSystemErrorMessage(errno), { cause: error }), { code });
}

export class BoundSocket implements ByteConn {
  readonly localAddr: Deno.NetAddr;
  readonly remoteAddr: Deno.NetAddr;
  readonly #socket: Socket;
  #failure: Error | undefined;
  #changed = Promise.withResolvers<void>();

  /** @param socket Connected; nobody else reads or writes it. */
  constructor(socket: Socket) {
    const { localAddress, localPort, remoteAddress, remotePort } = socket;
    this.#socket = socket;
    this.localAddr = { transport: "tcp", hostname: localAddress ?? "", port: localPort ?? 0 };
    this.remoteAddr = { transport: "tcp", hostname: remoteAddress ?? "", port: remotePort ?? 0 };
    const wake = () => this.#wake();
    socket.on("readable", wake);
    socket.on("end", wake);
    socket.on("close", wake);
    socket.on("error", (error) => {
      this.#failure ??= plainly(error);
      wake();
    });
  }

  /** Writes some of it, at least a byte. */
  write(bytes: Uint8Array): Promise<number> {
    const count = Math.min(bytes.length, MAX_WRITE_BYTES);
    return new Promise((resolve, reject) => {
      // Node keeps what it was given, and the caller uses its buffer again.
      this.#socket.write(bytes.slice(0, count), (error) => {
        if (error === undefined || error === null) resolve(count);
        else reject(this.#failure ?? plainly(error));
      });
    });
  }

  /** Reads what is there, at least a byte; `null` at the end. */
  async read(buffer: Uint8Array): Promise<number | null> {
    const socket = this.#socket;
    for (;;) {
      const count = Math.min(buffer.length, socket.readableLength);
      // Without a length it tells that the end is here.
      const chunk: Uint8Array | null = count === 0 ? socket.read() : socket.read(count);
      if (chunk !== null) {
        buffer.set(chunk);
        return chunk.length;
      }
      if (this.#failure !== undefined) throw this.#failure;
      if (socket.readableEnded) return null;
      if (socket.destroyed) throw new Error("the connection was closed");
      await this.#changed.promise;
    }
  }

  close(): void {
    this.#socket.destroy();
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
