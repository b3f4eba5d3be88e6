/**
 * Connections of every kind that the functions take.
 *
 * @module
 */

import { connectionsOf } from "../../lab/connections_of.ts";
import { socketCookie } from "../../src/kernel/descriptor.ts";
import { locate } from "../../src/tcp/located_socket.ts";
import type { TcpConnection } from "../../src/tcp/tcp.ts";

/** A pair of connected sockets. */
export interface Pair extends Disposable {
  readonly conn: Deno.TcpConn;
  readonly peer: Deno.TcpConn;
}

/** Connects within this process. */
export async function pair(
  listenOn = "127.0.0.1",
  connectTo = listenOn,
): Promise<Pair> {
  using listener = Deno.listen({ hostname: listenOn, port: 0 });
  const [conn, peer] = await Promise.all([
    Deno.connect({ hostname: connectTo, port: listener.addr.port }),
    listener.accept(),
  ]);
  return { conn, peer, [Symbol.dispose]: () => closeAll(conn, peer) };
}

/** Closes what its test may have closed already. */
export function closeAll(...conns: readonly Disposable[]): void {
  for (const conn of conns) {
    try {
      conn[Symbol.dispose]();
    } catch (error) {
      if (!(error instanceof Deno.errors.BadResource)) throw error;
    }
  }
}

/**
 * Writes more than the kernel takes from a peer that does not read.
 *
 * @returns What became of it: the error, once the connection has ended.
 */
export async function overfill(conn: Deno.TcpConn): Promise<unknown> {
  const bytes = new Uint8Array(256 * 1024);
  try {
    for (;;) await conn.write(bytes);
  } catch (error) {
    return error;
  }
}

/** Answers with what it gets, until the listener is closed. */
export async function echo(listener: Deno.TcpListener): Promise<void> {
  const serving: Promise<void>[] = [];
  for await (const conn of connectionsOf(listener)) {
    serving.push(conn.readable.pipeTo(conn.writable).catch(() => {}));
  }
  await Promise.all(serving);
}

/** A certificate for localhost, made by openssl; `undefined`: there is none. */
export async function certificate(
  directory: string,
): Promise<{ readonly cert: string; readonly key: string } | undefined> {
  const [keyFile, certFile] = [`${directory}/key.pem`, `${directory}/cert.pem`];
  try {
    const { success } = await new Deno.Command("openssl", {
      args: [
        ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"],
        ...["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        ...["-addext", "basicConstraints=critical,CA:FALSE"],
        ...["-keyout", keyFile, "-out", certFile],
      ],
      stdout: "null",
      stderr: "null",
    }).output();
    if (!success) return undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  return { cert: await Deno.readTextFile(certFile), key: await Deno.readTextFile(keyFile) };
}

/** The ends alone, so that nothing is remembered of the connection. */
export function endsAlone({ localAddr, remoteAddr }: Deno.TcpConn): TcpConnection {
  return { localAddr, remoteAddr };
}

/** How many descriptors of this process each of these sockets has, by its cookie. */
export function descriptorsOf(cookies: readonly (bigint | undefined)[]): number[] {
  const counts = new Map<bigint, number>();
  for (let fd = 0; fd < 2048; fd++) {
    const cookie = socketCookie(fd);
    if (cookie !== undefined) counts.set(cookie, (counts.get(cookie) ?? 0) + 1);
  }
  return cookies.map((cookie) => cookie === undefined ? NaN : counts.get(cookie) ?? 0);
}

/** The cookie of a connection. */
export function cookieOf(conn: TcpConnection): bigint | undefined {
  return socketCookie(locate(conn).found.fd);
}
