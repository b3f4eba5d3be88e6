import assert from "node:assert/strict";
import { Relay } from "../../src/relay/relay.ts";
import { Sender } from "../../src/sender/sender.ts";

Deno.test("Relay stores no more at a time than its sender's queue has room for", async () => {
  const directory = Deno.makeTempDirSync();
  const server = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const served = server.accept().then((connection) => new Response(connection.readable).text());
  const sender = await Sender.open({
    queue: `${directory}/outbox.db`,
    queueOptions: { maxPackets: 8, overflow: "wait" },
    remote: `tcp://127.0.0.1:${server.addr.port}`,
    holdMs: 0,
  });
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const relay = new Relay({ sender, listeners: [listener], input: "lines" });

  // One read of the relay brings many times what the queue may hold.
  const client = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
  const text = "line\n".repeat(100);
  await client.write(new TextEncoder().encode(text));
  await client.closeWrite();
  assert.equal(await client.read(new Uint8Array(1)), null);
  client.close();

  const { storedPackets, unstoredPackets } = relay.stats();
  assert.deepEqual([storedPackets, unstoredPackets], [100, 0]);
  await relay.stop();
  await sender.close({ deliverTimeoutMs: Infinity });
  assert.equal(await served, text);
  server.close();
  Deno.removeSync(directory, { recursive: true });
});
