/**
 * What a call of `@sendq/sendq/tcp` costs:
 *
 * ```sh
 * deno run --allow-net=127.0.0.1 --allow-ffi bench/tcp_calls.ts
 * ```
 *
 * @module
 */

// deno-lint-ignore-file no-console -- a bench prints
import {
  ClosedError,
  drained,
  sendQueue,
  setSocketOptions,
  socketError,
  socketOptions,
  type TcpConnection,
  tcpInfo,
  watch,
} from "../src/tcp/tcp.ts";
import { locate } from "../src/tcp/located_socket.ts";
import { readCounters } from "../src/tcp/counters.ts";

/** Many and short, so that some have a core for themselves also where much else runs. */
const ROUNDS = 300;

/** The least of the rounds, in microseconds a call: what else runs can only lengthen one. */
function microseconds(calls: number, call: () => unknown): number {
  const rounds = Array.from({ length: ROUNDS }, () => {
    const started = performance.now();
    for (let i = 0; i < calls; i++) call();
    return (performance.now() - started) * 1000 / calls;
  });
  return Math.min(...rounds);
}

function print(name: string, us: number): void {
  console.log(`${name.padEnd(56)} ${us < 100 ? us.toFixed(1) : us.toFixed(0)} µs`);
}

const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
const conns: Deno.TcpConn[] = [];
async function connect(): Promise<Deno.TcpConn> {
  const [conn, peer] = await Promise.all([
    Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port }),
    listener.accept(),
  ]);
  conns.push(conn, peer);
  return conn;
}
const alone = ({ localAddr, remoteAddr }: Deno.TcpConn): TcpConnection => ({
  localAddr,
  remoteAddr,
});

const conn = await connect();
print("sendQueue", microseconds(500, () => sendQueue(conn)));
print("tcpInfo", microseconds(500, () => tcpInfo(conn)));
print("socketOptions", microseconds(100, () => socketOptions(conn)));
print(
  "setSocketOptions, one option",
  microseconds(100, () => setSocketOptions(conn, { userTimeoutMs: 0 })),
);
print("socketError", microseconds(100, () => socketError(conn)));
print("watch and its end", microseconds(20, () => watch(conn)[Symbol.dispose]()));
const socket = locate(conn);
print("one reading of a watch", microseconds(500, () => socket.read(readCounters)));

const started = performance.now();
for (let i = 0; i < 100; i++) await drained(conn);
print("drained, nothing under way", performance.now() - started);

for (const open of [25, 100, 1000]) {
  while (conns.length < open) await connect();
  const last = conns.at(-1);
  if (last === undefined) throw new Error("nothing is open");
  const calls = Math.ceil(1000 / open);
  print(
    `first call on a connection, ${open} open, the newest one`,
    microseconds(calls, () => tcpInfo(alone(last))),
  );
}
const nowhere = {
  localAddr: { hostname: "127.0.0.1", port: 1 },
  remoteAddr: { hostname: "127.0.0.1", port: 1 },
};
print(
  "first call on a connection that has been closed",
  microseconds(1, () => {
    try {
      tcpInfo(nowhere);
    } catch (error) {
      if (!(error instanceof ClosedError)) throw error;
    }
  }),
);
for (const one of conns) one.close();
listener.close();
