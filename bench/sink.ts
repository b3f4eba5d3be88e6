// deno-lint-ignore-file no-console
/**
 * A server that reads as fast as it can and checks every packet's place in the
 * order. Prints `{"port":N}`, then answers each line on its standard input, a
 * {@linkcode SinkQuestion}, with one line of JSON: what it has received.
 *
 * ```sh
 * deno run -A bench/sink.ts '{"packetBytes":100,"latency":true}'
 * ```
 *
 * @module
 */

import { connectionsOf } from "../lab/connections_of.ts";
import { monotonicMs } from "./clock.ts";
import { PacketChecker } from "./packet.ts";
import { quantiles } from "./statistics.ts";

/** How to start the sink. */
export interface SinkOptions {
  readonly packetBytes: number;
  /** Note how long each packet took. */
  readonly latency?: boolean;
  /** The packets are lines of a `LineMaker`. */
  readonly lines?: boolean;
  /** Bytes that are no packets: they are read and not looked at. */
  readonly uncounted?: boolean;
  readonly hostname?: string;
  /** PEM of a certificate and its key: it speaks TLS. */
  readonly tls?: { readonly cert: string; readonly key: string };
}

/** What the sink is asked. */
export interface SinkQuestion {
  /** Only how long those packets took that were enqueued from here on, by CLOCK_MONOTONIC. */
  readonly fromMs?: number;
  /** And until here. */
  readonly untilMs?: number;
}

/** What the sink answers. */
export interface SinkReport {
  /** Packets in their right place. */
  readonly packets: number;
  /** Packets that had been there before. */
  readonly repeated: number;
  /** Packets that never came before a later one: must be 0. */
  readonly missing: number;
  readonly connections: number;
  /** From the call of enqueue to being read here, in milliseconds. */
  readonly latencyMs: ReturnType<typeof quantiles> | undefined;
}

const READ_BYTES = 512 * 1024;

async function serve(options: SinkOptions): Promise<void> {
  const expected: number[] = [];
  /** In pairs, when it was enqueued and how long it took: no object for each packet. */
  const latencies: number[] = [];
  const count = { packets: 0, repeated: 0, missing: 0, connections: 0 };
  const where = { hostname: options.hostname ?? "127.0.0.1", port: 0 };
  const listener: Deno.Listener<Deno.TcpConn | Deno.TlsConn, Deno.NetAddr> =
    options.tls === undefined ? Deno.listen(where) : Deno.listenTls({ ...where, ...options.tls });

  const read = async (connection: Deno.TcpConn | Deno.TlsConn): Promise<void> => {
    let nowMs = 0;
    const checker = new PacketChecker(options.packetBytes, (number, sender, atMs) => {
      const due = expected[sender] ?? 0;
      if (number < due) {
        count.repeated++;
        return;
      }
      count.missing += number - due;
      count.packets++;
      expected[sender] = number + 1;
      if (atMs !== 0 && options.latency === true) latencies.push(atMs, nowMs - atMs);
    }, options.lines);
    const buffer = new Uint8Array(READ_BYTES);
    try {
      for (;;) {
        const readBytes = await connection.read(buffer);
        if (readBytes === null) break;
        if (options.latency === true) nowMs = monotonicMs();
        if (options.uncounted !== true) checker.take(buffer.subarray(0, readBytes));
      }
      connection.close();
    } catch {
      // Reset: whoever sent it will come again.
    }
  };

  (async () => {
    for await (const connection of connectionsOf(listener)) {
      count.connections++;
      void read(connection);
    }
  })();
  console.log(JSON.stringify({ port: listener.addr.port }));
  for await (const line of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    const { fromMs = -Infinity, untilMs = Infinity }: SinkQuestion = JSON.parse(line);
    const asked: number[] = [];
    for (let i = 0; i < latencies.length; i += 2) {
      const atMs = latencies[i] ?? 0;
      if (atMs >= fromMs && atMs <= untilMs) asked.push(latencies[i + 1] ?? 0);
    }
    const report: SinkReport = {
      ...count,
      latencyMs: asked.length === 0 ? undefined : quantiles(asked),
    };
    console.log(JSON.stringify(report));
  }
}

if (import.meta.main) {
  await serve(JSON.parse(Deno.args[0] ?? "{}"));
  Deno.exit();
}
