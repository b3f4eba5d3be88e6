/** Packets given as text. */
import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { Sender } from "../../src/sender/sender.ts";
import { text } from "../support/bytes.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";

const WORDS = "temperature 21.5 °C\n";

Deno.test("a string is stored and sent as UTF-8, by whatever way it comes", async () => {
  using dir = new TempDir();
  await using server = new ScriptedServer().start();
  const texts = server.readAll();
  {
    await using sender = await Sender.open(dir.queue, server.remote, { holdMs: 0 });
    await sender.enqueue(WORDS);
    await sender.enqueueMany(["one\n", new TextEncoder().encode("two\n"), "three\n"]);
    await ReadableStream.from(["four\n", "five\n"]).pipeTo(sender.writable);
    await sender.drained();
  }
  assert.equal(texts.join(""), `${WORDS}one\ntwo\nthree\nfour\nfive\n`);
});

Deno.test("strings and bytes of the same text are the same packet", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue, { durability: "process-crash" });
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.string({ unit: "binary", minLength: 1 }), { minLength: 1, maxLength: 5 }),
      fc.array(fc.boolean(), { minLength: 5, maxLength: 5 }),
      async (strings, asBytes) => {
        const encoded = strings.map((string) => new TextEncoder().encode(string));
        const mixed = strings.map((string, i) => asBytes[i] ? encoded[i] ?? string : string);
        const { firstId } = await queue.enqueueMany(mixed);
        const lastId = await queue.enqueue(strings[0] ?? "");
        const stored = await queue.read(firstId - 1, 1 << 20);
        assert.deepEqual(stored.map(({ payload }) => payload), [...encoded, encoded[0]]);
        await queue.removePackets({ firstId, lastId });
      },
    ),
    { numRuns: 20 },
  );
});

Deno.test("the size that counts is that of the bytes; an empty string is no packet", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue, { maxPacketBytes: 3 });
  await queue.enqueue("abc");
  await assert.rejects(queue.enqueue("a€"), { name: "PacketSizeError" });
  await assert.rejects(queue.enqueue(""), { name: "PacketSizeError" });
  await assert.rejects(queue.enqueueMany(["a", ""]), { name: "PacketSizeError" });
  // @ts-expect-error: neither a string nor bytes
  await assert.rejects(queue.enqueue(5), TypeError);
  const stored = await queue.read(0, 100);
  assert.deepEqual(stored.map(({ payload }) => text(payload)), ["abc"]);
});
