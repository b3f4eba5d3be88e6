import assert from "node:assert/strict";
import { AcceptedEnd } from "../../src/kernel/accepted_end.ts";
import { SO_LINGER, SOL_SOCKET } from "../../src/kernel/constants.ts";
import { findDescriptor } from "../../src/kernel/descriptor.ts";
import { libc } from "../../src/kernel/libc.ts";
import { bytes } from "../support/bytes.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { grantedLibc, seccompObstacle, testUnless } from "./helpers.ts";
import type { Refusal } from "./seccomp.ts";

async function pair(): Promise<{ client: Deno.TcpConn; accepted: Deno.TcpConn }> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const client = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
  return { client, accepted: await listener.accept() };
}

function refused(error: Error): never {
  throw error;
}

function lingerOf(conn: Deno.TcpConn): number[] {
  const { fd = -1 } = findDescriptor(conn, 0) ?? {};
  const linger = new Int32Array(4);
  const length = new Uint32Array([linger.byteLength]);
  assert.equal(libc().getsockopt(fd, SOL_SOCKET, SO_LINGER, linger, length), 0);
  assert.equal(length[0], 8);
  return [...linger.subarray(0, 2)];
}

Deno.test("what is accepted lingers for no time, until it may end in order", async () => {
  const { client, accepted } = await pair();
  const end = AcceptedEnd.of(accepted, refused);
  assert(end !== undefined);
  assert.deepEqual(lingerOf(accepted), [1, 0]);
  // With it a FIN that gets lost is not repeated.
  end.permitOrder();
  assert.deepEqual(lingerOf(accepted), [0, 0]);
  accepted.close();
  assert.equal(await client.read(new Uint8Array(1)), null);
  // Closed, it is nobody's: what has its number now is left alone.
  const next = await pair();
  end.reset();
  await next.client.write(bytes("x"));
  assert.equal(await next.accepted.read(new Uint8Array(1)), 1);
  for (const conn of [client, next.client, next.accepted]) conn.close();
});

Deno.test("whether the client's end is all that is left to read", async () => {
  const { client, accepted } = await pair();
  const end = AcceptedEnd.of(accepted, refused);
  assert(end !== undefined);
  assert.equal(end.clientHasEnded, false, "it may still send");
  await client.write(bytes("x"));
  await client.closeWrite();
  assert.equal(end.clientHasEnded, false, "a byte is unread");
  assert.equal(await accepted.read(new Uint8Array(1)), 1);
  await until("its end", () => end.clientHasEnded);
  assert.equal(await accepted.read(new Uint8Array(1)), null, "and is still there to be read");
  end.reset();
  accepted.close();
  await assert.rejects(client.read(new Uint8Array(1)), Deno.errors.ConnectionReset);
  client.close();
});

Deno.test("one that has died before is none", async () => {
  const { client, accepted } = await pair();
  const dead = AcceptedEnd.of(client, refused);
  dead?.reset();
  await assert.rejects(accepted.read(new Uint8Array(1)), Deno.errors.ConnectionReset);
  assert.equal(AcceptedEnd.of(accepted, refused), undefined);
  client.close();
  accepted.close();
});

const EPERM = 1;
const PRETEND = 0;
const obstacle = await seccompObstacle();

for (const errno of [EPERM, PRETEND]) {
  const how = errno === PRETEND ? "pretends" : "refuses";
  testUnless(
    obstacle,
    `a relay whose kernel ${how} to reset connections says so, once`,
    async () => {
      using dir = new TempDir();
      const script = new URL("./unreset_child.ts", import.meta.url).href;
      const refusals: Refusal[] = [{ call: "connect", args: { 2: 16 }, errno }];
      const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: [
          ...["run", "--no-prompt", "--no-lock", "-A", script],
          ...[grantedLibc() ?? "", JSON.stringify(refusals), dir.queue],
        ],
        stdin: "null",
      }).output();
      const text = new TextDecoder().decode(stdout);
      assert.notEqual(text, "", new TextDecoder().decode(stderr));
      const words: string[] = JSON.parse(text);
      const told = words.filter((line) => line.includes("clients see an orderly end also where"));
      assert.equal(told.length, 1, words.join("\n"));
      assert.match(told[0] ?? "", /The kernel refuses connect\(AF_UNSPEC\)/);
    },
  );
}
