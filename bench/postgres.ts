// deno-lint-ignore-file no-console
/**
 * A queue on PostgreSQL beside the same packets as plain rows: one connection of `npm:postgres`,
 * a row a packet, in statements as large as the queue's own commits may be. Both on a server of
 * this run's own, whose commits are synced and wait for no standby.
 *
 * @module
 */

import connect from "postgres";
import { postgresQueue } from "../src/postgres/postgres.ts";
import { NO_POSTGRES, PostgresServer } from "../tests/postgres/server.ts";
import { PacketMaker } from "./packet.ts";
import type { Reading, Round } from "./readings.ts";

const PACKET_BYTES = 100;
const MEASURE_MS = 3000;
/** What a commit of the queue holds at the most. */
const MAX_COMMIT_PACKETS = 4096;

/** By one, a hundred and ten thousand enqueuers; who goes first changes from round to round. */
export async function* postgres({ number, quick }: Round): AsyncGenerator<Reading> {
  if (NO_POSTGRES !== undefined) {
    console.error(`postgres: skipped, ${NO_POSTGRES}`);
    return;
  }
  await using server = await PostgresServer.start();
  for (const enqueuers of quick ? [100] : [1, 100, 10_000]) {
    const name = `${enqueuers}_${number}`;
    const before = number % 2 === 0 ? await rawRate(server, enqueuers, name) : undefined;
    const ours = await queueRate(server, enqueuers, name);
    const raw = before ?? await rawRate(server, enqueuers, name);
    yield {
      name: `PostgreSQL, 100 B, ${enqueuers} enqueuer${enqueuers === 1 ? "" : "s"}`,
      unit: "packets/s",
      value: ours,
      against: { name: "raw npm:postgres rows", value: raw },
      target: "≥ 0.8",
    };
  }
}

async function queueRate(server: PostgresServer, enqueuers: number, name: string): Promise<number> {
  const url = await server.makeQueue(`bench_${name}`);
  await using queue = await postgresQueue({ url, durability: "power-loss", maxPackets: 1e9 });
  const maker = new PacketMaker(PACKET_BYTES);
  return await rateOf(enqueuers, async () => {
    await queue.enqueue(maker.next());
    return 1;
  });
}

async function rawRate(server: PostgresServer, enqueuers: number, name: string): Promise<number> {
  const sql = connect(server.url(), { max: 1, onnotice: () => {} });
  try {
    const table = sql(`raw_${name}`);
    await sql`CREATE TABLE ${table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload bytea)`;
    const maker = new PacketMaker(PACKET_BYTES);
    const packets = Math.min(enqueuers, MAX_COMMIT_PACKETS);
    return await rateOf(1, async () => {
      // A copy of each, as `enqueue` makes one.
      const payloads = Array.from({ length: packets }, () => maker.next().slice());
      await sql`INSERT INTO ${table} (payload) SELECT unnest(${sql.array(payloads, 17)}::bytea[])`;
      return packets;
    });
  } finally {
    await sql.end();
  }
}

/** Calls so many at a time, again and again; packets a second after a third of the time. */
async function rateOf(concurrency: number, call: () => Promise<number>): Promise<number> {
  const warmUntilMs = performance.now() + MEASURE_MS / 2;
  const endMs = warmUntilMs + MEASURE_MS;
  let packets = 0;
  await Promise.all(Array.from({ length: concurrency }, async () => {
    for (let nowMs = 0; nowMs < endMs;) {
      const stored = await call();
      nowMs = performance.now();
      if (nowMs >= warmUntilMs && nowMs < endMs) packets += stored;
    }
  }));
  return packets / MEASURE_MS * 1000;
}
