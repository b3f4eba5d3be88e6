/**
 * A connection with a hand on its other end: once over the real kernel, once
 * over the simulated one.
 */

import { Network } from "../../simulation/network.ts";
import { SeededRandom } from "../../simulation/random.ts";
import { Scheduler, settled, SimProcess } from "../../simulation/scheduler.ts";
import type { TcpOptions } from "../../simulation/segment.ts";
import type { TcpEnd } from "../../simulation/tcp.ts";
import { SimDialer } from "../../simulation/wire.ts";
import { systemClock } from "../../src/base/clock.ts";
import type { Dialer, Wire } from "../../src/base/ports.ts";
import { failoverDialer } from "../../src/failover/failover_dialer.ts";
import { tcpDialer } from "../../src/kernel/dialer.ts";
import { unixDialer } from "../../src/kernel/unix_dialer.ts";
import { tenuredDialer } from "../../src/sender/tenured_dialer.ts";
import { listen, patience, resetBy } from "../kernel/helpers.ts";
import { unixSocket } from "../support/unix_sockets.ts";
import { until } from "../support/until.ts";
import { dialTls, pem } from "../tls/helpers.ts";

/** The other end. Its program reads only when told to. */
export interface PairPeer {
  /** Reads exactly so many bytes. */
  read(bytes: number): Promise<void>;
  write(bytes: number): Promise<void>;
  /** `shutdown(SHUT_WR)`. */
  halfClose(): void;
  /** `close()`, everything having been read. */
  close(): void;
  /** What a kernel does for a program that dies with unread bytes. */
  reset(): void;
  /** What happens to a read there: `"reset"`, or `"end"` for a FIN. */
  end(): Promise<"reset" | "end">;
}

/** Both ends. */
export interface WirePair {
  readonly wire: Wire;
  readonly peer: PairPeer;
  /** What `bytesAcked` counts of our SYN. */
  readonly synBytes: number;
  /** What it counts of our FIN. */
  readonly finBytes: number;
  /** Lets time pass until the condition holds. */
  until(what: string, condition: () => boolean): Promise<void>;
  /** Lets time pass until the promise is settled. */
  outcome<T>(promise: Promise<T>): Promise<T>;
  [Symbol.dispose](): void;
}

const TCP_COUNTS = { synBytes: 1, finBytes: 1 } as const;

/** Loopback. */
export async function realPair(): Promise<WirePair> {
  using listener = listen();
  const accepted = listener.accept();
  const dialer = tcpDialer({ hostname: "127.0.0.1", port: listener.port });
  const wire = await dialer.dial(patience());
  const conn = await accepted;
  return pairOf(wire, conn, () => resetBy(conn));
}

/** Loopback, with TLS over it: the server is rustls, as Deno has it. */
export async function tlsPair(): Promise<WirePair> {
  using listener = Deno.listenTls({
    hostname: "127.0.0.1",
    port: 0,
    cert: pem("server.pem"),
    key: pem("server.key"),
  });
  const accepted = listener.accept().then(async (conn) => {
    await conn.handshake();
    return conn;
  });
  const wire = await dialTls(listener.addr.port);
  const conn = await accepted;
  return pairOf(wire, conn, () => resetBy(conn));
}

/** As one of several servers, and under a right to send that could lapse: what stands above a wire. */
export async function wrapped(open: () => Promise<WirePair>): Promise<WirePair> {
  const pair = await open();
  const dialer: Dialer = { remote: "tcp://first:1", dial: () => Promise.resolve(pair.wire) };
  const nobody: Dialer = { remote: "tcp://second:1", dial: () => Promise.reject(new Error()) };
  const tenure = { validForMs: () => 60_000, subscribeLapsed: () => () => {} };
  const failover = failoverDialer({ dialers: [dialer, nobody], clock: systemClock });
  return { ...pair, wire: await tenuredDialer(failover, tenure).dial(patience()) };
}

/** A Unix socket: no SYN, and a reset is an end with unread bytes. */
export async function unixWirePair(): Promise<WirePair> {
  const path = unixSocket();
  using listener = Deno.listen({ transport: "unix", path });
  const wire = await unixDialer({ path, clock: systemClock }).dial(patience());
  const conn = await listener.accept();
  return pairOf(wire, conn, () => conn.close(), { synBytes: 0, finBytes: 0 });
}

function pairOf(
  wire: Wire,
  conn: Deno.TcpConn | Deno.TlsConn | Deno.UnixConn,
  reset: () => void,
  counts: Pick<WirePair, "synBytes" | "finBytes"> = TCP_COUNTS,
): WirePair {
  let open = true;
  const once = (end: () => void): void => {
    if (open) end();
    open = false;
  };
  return {
    wire,
    ...counts,
    peer: {
      async read(bytes) {
        for (let left = bytes; left > 0;) {
          const count = await conn.read(new Uint8Array(Math.min(left, 65_536)));
          if (count === null) throw new Error("the stream ended too early");
          left -= count;
        }
      },
      async write(bytes) {
        await conn.write(new Uint8Array(bytes));
      },
      halfClose: () => void conn.closeWrite(),
      close: () => once(() => conn.close()),
      reset: () => once(reset),
      async end() {
        try {
          if (await conn.read(new Uint8Array(1)) === null) return "end";
        } catch (error) {
          if (error instanceof Deno.errors.ConnectionReset) return "reset";
          throw error;
        }
        throw new Error("there was more to read");
      },
    },
    until,
    outcome: (promise) => promise,
    [Symbol.dispose]() {
      wire.abort();
      once(() => conn.close());
    },
  };
}

const TCP: TcpOptions = {
  mssBytes: 32_768,
  sendBufferBytes: 300_000,
  tellsReads: false,
  receiveBufferBytes: 65_536,
  rtoMaxMs: 1000,
  userTimeoutMs: 0,
  keepAlive: undefined,
};

/** The same in the simulation. */
export async function simulatedPair(): Promise<WirePair> {
  const scheduler = new Scheduler();
  const process = new SimProcess(scheduler, {
    hostNowMs: () => scheduler.nowMs,
    wallMs: () => scheduler.nowMs,
    timerLateMs: () => 0,
  }, 0);
  let established: TcpEnd | undefined;
  const network = new Network(
    scheduler,
    new SeededRandom(1),
    { delayMs: 0.05, queueBytes: Infinity },
    TCP,
    TCP,
    {
      up: true,
      answerSyn: () => "accept",
      established: (end) => (established = end),
    },
  );
  const pass = async (what: string, condition: () => boolean): Promise<void> => {
    await settled();
    const endMs = scheduler.nowMs + 20_000;
    while (!condition()) {
      if (!scheduler.step(endMs)) throw new Error(`not within 20 s: ${what}`);
      await settled();
    }
  };
  const outcome = async <T>(promise: Promise<T>): Promise<T> => {
    let over = false;
    const done = (): void => void (over = true);
    promise.then(done, done);
    await pass("the promise settles", () => over);
    return await promise;
  };
  const nobody = {
    dialed() {},
    lookUpGivenUp() {},
    opened() {},
    arrived() {},
    written() {},
    acked() {},
    heard() {},
    died() {},
    finishing() {},
    released() {},
  };
  const chance = { takes: (bytes: number) => bytes, lagMs: () => 0 };
  const dialer = new SimDialer(network, process, nobody, chance);
  const wire = await outcome(dialer.dial(new AbortController().signal, () => {}));
  const end = established;
  if (end === undefined) throw new Error("no end was made");
  return {
    wire,
    ...TCP_COUNTS,
    peer: {
      async read(bytes) {
        let left = bytes;
        await pass("the peer has read", () => {
          while (left > 0) {
            const part = end.read(left);
            if (part === undefined) return false;
            left -= part.length;
          }
          return true;
        });
      },
      write(bytes) {
        end.write(new Uint8Array(bytes));
        return Promise.resolve();
      },
      halfClose: () => end.shutdownWrite(),
      close: () => end.close(),
      reset: () => end.abort(),
      async end() {
        await pass("the peer's stream ends", () => end.finReceived || end.state === 7);
        return end.takeHardError() === undefined ? "end" : "reset";
      },
    },
    until: pass,
    outcome,
    [Symbol.dispose]: () => wire.abort(),
  };
}
