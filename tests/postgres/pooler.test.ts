/**
 * A pooler between sendq and the server: PgBouncer in its mode `transaction` gave one producer the
 * answer to another one's question, so that packets were acknowledged that nobody had stored.
 */
import assert from "node:assert/strict";
import { QueueFileError } from "../../src/base/errors.ts";
import { postgresQueue } from "../../src/postgres/postgres.ts";
import { setUp } from "../../src/postgres/setup.ts";
import { unless } from "../queue/helpers.ts";
import { within } from "../support/until.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

/** The first message of a client: who it is, and the settings that it asks for. */
interface Startup {
  readonly version: number;
  readonly settings: ReadonlyMap<string, string>;
}

function startupIn(bytes: Uint8Array): Startup {
  const version = new DataView(bytes.buffer, bytes.byteOffset).getInt32(4);
  const words = new TextDecoder().decode(bytes.subarray(8)).split("\0");
  const settings = new Map<string, string>();
  for (let i = 0; words[i]; i += 2) settings.set(words[i] ?? "", words[i + 1] ?? "");
  return { version, settings };
}

function bytesOf({ version, settings }: Startup): Uint8Array<ArrayBuffer> {
  const text = [...settings].flat().map((word) => `${word}\0`).join("") + "\0";
  const body = new TextEncoder().encode(text);
  const bytes = new Uint8Array(8 + body.length);
  new DataView(bytes.buffer).setInt32(0, bytes.length);
  new DataView(bytes.buffer).setInt32(4, version);
  bytes.set(body, 8);
  return bytes;
}

/** Stands before a server, and gives it other settings than those which were asked for. */
class Pooler implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #ended: Promise<void>;
  readonly #conns = new Set<Deno.Conn>();

  constructor(port: number, settingsFor: (asked: Startup["settings"]) => Startup["settings"]) {
    this.#ended = (async () => {
      const all: Promise<unknown>[] = [];
      for await (const client of this.#listener) {
        this.#conns.add(client);
        all.push((async () => {
          const buffer = new Uint8Array(4096);
          const read = await client.read(buffer) ?? 0;
          const { version, settings } = startupIn(buffer.subarray(0, read));
          const server = await Deno.connect({ hostname: "127.0.0.1", port });
          this.#conns.add(server);
          await server.write(bytesOf({ version, settings: settingsFor(settings) }));
          await Promise.allSettled([
            client.readable.pipeTo(server.writable),
            server.readable.pipeTo(client.writable),
          ]);
        })());
      }
      await Promise.allSettled(all);
    })();
  }

  get port(): number {
    return this.#listener.addr.port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const conn of this.#conns) {
      try {
        conn.close();
      } catch {
        // It has ended by itself.
      }
    }
    await this.#ended;
  }
}

const WHO = ["user", "database", "client_encoding"];
let first: Startup["settings"] | undefined;

const POOLERS = {
  "that drops settings": (asked) => new Map([...asked].filter(([name]) => WHO.includes(name))),
  // A connection that another client has opened.
  "whose connections are those of others": (asked) =>
    first ??= new Map(asked).set("sendq.connection", "another"),
} satisfies Record<string, (asked: Startup["settings"]) => Startup["settings"]>;

Deno.test({
  ...unless(
    NO_POSTGRES,
    "a pooler before the server is refused, by the one who opens and by setup",
  ),
  async fn(t) {
    await using server = await PostgresServer.start();
    const direct = await server.makeQueue("outbox");
    for (const [name, settingsFor] of Object.entries(POOLERS)) {
      await t.step(`one ${name}`, async () => {
        await using pooler = new Pooler(server.port, settingsFor);
        const url = direct.replace(`:${server.port}/`, `:${pooler.port}/`);
        const isTold = (error: unknown) => {
          assert(error instanceof QueueFileError, String(error));
          assert.match(error.message, /is no PostgreSQL server itself, but a pooler/);
          assert.match(error.message, /Nothing was stored\. Name the server's own address/);
          return true;
        };
        const opening = postgresQueue({ url: `${url}?durability=power-loss` });
        await assert.rejects(within("opening is refused", opening), isTold);
        await assert.rejects(within("setup is refused", setUp(url)), isTold);
      });
    }
  },
});

Deno.test("a pooler that refuses what it cannot keep apart is told from a server that is away", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const fields = "SFATAL\0C08P01\0Munsupported startup parameter: sendq.connection\0\0";
  const body = new TextEncoder().encode(fields);
  const answer = new Uint8Array(5 + body.length);
  answer[0] = 0x45;
  new DataView(answer.buffer).setInt32(1, 4 + body.length);
  answer.set(body, 5);
  const answering = (async () => {
    using conn = await listener.accept();
    await conn.read(new Uint8Array(4096));
    await conn.write(answer);
  })();
  const url = `postgres://sendq@127.0.0.1:${listener.addr.port}/packets/outbox`;
  await assert.rejects(
    within("it is refused", postgresQueue({ url })),
    /is no PostgreSQL server itself, but a pooler/,
  );
  await answering;
});
