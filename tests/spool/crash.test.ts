/** A process that stores into many queues of a spool is killed: nothing acknowledged is lost. */
import assert from "node:assert/strict";
import { sendingSideOf } from "../../src/queue/queue.ts";
import { spooledQueues, spoolInspector } from "../../src/spool/spool.ts";
import { lines } from "../queue/helpers.ts";
import { PLACES } from "../queue/threads.ts";
import { text } from "../support/bytes.ts";
import { TempDir } from "../support/temp_dir.ts";
import { child, openAll } from "./helpers.ts";

const NAMES = Array.from({ length: 20 }, (_, i) => `queue-${String(i).padStart(2, "0")}`);
const ROUNDS = 8;

for (const syncIn of PLACES) {
  Deno.test(`killed -9 while it stores into 20 queues: what was acknowledged is there, in order (syncIn ${syncIn})`, async () => {
    using dir = new TempDir();
    const acknowledged = new Map(NAMES.map((name) => [name, new Map<number, string>()]));
    const removed = new Map(NAMES.map((name) => [name, 0]));
    for (let round = 0; round < ROUNDS; round++) {
      const storer = child("storer.ts", dir.queue, `r${round}`, "Infinity", syncIn, ...NAMES);
      const killAfter = 1 + Math.floor(Math.random() * 600);
      let seen = 0;
      for await (const line of lines(storer.stdout)) {
        const [name = "", id = "", words = ""] = line.split(" ");
        const known = acknowledged.get(name) ?? assert.fail(line);
        assert(!known.has(Number(id)), `${name}: id ${id} was given twice`);
        assert(Number(id) > (removed.get(name) ?? 0), `${name}: id ${id} was given again`);
        known.set(Number(id), words);
        if (++seen === killAfter) storer.kill("SIGKILL");
      }
      assert.equal((await storer.status).signal, "SIGKILL");
      await storer.stdin.abort().catch(() => {});
      for (const name of NAMES) {
        using inspector = await spoolInspector(dir.queue, name);
        assert.deepEqual(await inspector.check(), [], name);
      }
      await using queues = await openAll(dir.queue, NAMES);
      for (const [i, queue] of queues.all.entries()) {
        const name = NAMES[i] ?? "";
        const through = removed.get(name) ?? 0;
        const packets = await queue.read(through, 1e9);
        assert.deepEqual(
          packets.map(({ id }) => id),
          Array.from({ length: packets.length }, (_, i) => through + 1 + i),
          `${name} has no gaps`,
        );
        assert.equal(queue.stats().packets, packets.length);
        const stored = new Map(packets.map(({ id, payload }) => [id, text(payload)]));
        for (const [id, words] of acknowledged.get(name) ?? []) {
          if (id > through) assert.equal(stored.get(id), words, `${name}: packet ${id}`);
        }
        // In each round its packets are those that were stored first, in their order.
        for (let past = 0; past <= round; past++) {
          const own = [...stored.values()].filter((words) => words.startsWith(`r${past}:`));
          assert.deepEqual(own, own.map((_, n) => `r${past}:${n}`), name);
        }
        // Now and then one is emptied: its ids must go on all the same.
        if ((round + i) % 3 === 2) {
          await sendingSideOf(queue).removeThrough(queue.lastId);
          removed.set(name, queue.lastId);
        }
      }
    }
    assert.deepEqual((await spooledQueues(dir.queue)).map(({ name }) => name), NAMES);
  });
}
