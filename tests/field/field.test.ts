/**
 * A handful of the field ring (`deno task field`): what nobody here has written,
 * where it is installed, in a smaller size. And what the ring itself rests on.
 */
import assert from "node:assert/strict";
import type { Load, Needs } from "../../field/case.ts";
import { CLIENT_CASES, runClients } from "../../field/clients.ts";
import { compare } from "../../field/compare.ts";
import { inWords, missing } from "../../field/packages.ts";
import * as pdu from "../../field/packets.ts";
import { REFUSALS, runRefusal } from "../../field/refusals.ts";
import { runServer } from "../../field/run_server.ts";
import { GPSD, lineOf, REDIS, RSYSLOG_OCTETS, RSYSLOG_UNIX, SERVERS } from "../../field/servers.ts";
import { readRouteFile } from "../../src/cli/route/route_file.ts";
import { bytes } from "../support/bytes.ts";
import { TempDir } from "../support/temp_dir.ts";

const EXAMPLES = new URL("../../examples/protocols/", import.meta.url);
const BURST: Load = { name: "burst", packets: 300, hold: "2s" };
/** Of packages from npm, only those that deno.json has are there. */
const NO_SCRATCH = "/nonexistent";

async function leftOut(needs: Needs): Promise<string> {
  const lacks = inWords(await missing(needs, NO_SCRATCH));
  return lacks && ` (left out: there is no ${lacks})`;
}

function named<Case extends { readonly name: string }>(cases: readonly Case[], name: string): Case {
  return cases.find((one) => one.name === name) ?? assert.fail(`there is no case ${name}`);
}

const npmClient = new URL("../../field/npm_client.ts", import.meta.url).pathname;
const { success: npmIsThere } = await new Deno.Command(Deno.execPath(), {
  args: ["cache", npmClient],
  stderr: "null",
}).output();

for (const name of ["logger --octet-count", "omfwd, newline", "gelf-pro"]) {
  const client = named(CLIENT_CASES, name);
  const ofNpm = "npm" in client.version && !npmIsThere;
  const reason = ofNpm
    ? " (left out: its packages cannot be fetched from npm)"
    : await leftOut(client.needs);
  Deno.test({
    name: `field: two of ${name} at once lose nothing and are never mixed${reason}`,
    ignore: reason !== "",
    async fn() {
      using dir = new TempDir();
      const { failures, sent } = await runClients(client, dir.path);
      assert.deepEqual(failures, []);
      assert.ok(sent > 0);
    },
  });
}

for (const server of [RSYSLOG_OCTETS, RSYSLOG_UNIX, REDIS, GPSD]) {
  const reason = await leftOut(server.needs);
  Deno.test({
    name: `field: ${server.name}, killed and ended on the way, has every packet${reason}`,
    ignore: reason !== "",
    async fn() {
      using dir = new TempDir();
      const { failures, lost, connections } = await runServer(server, BURST, dir.path);
      assert.deepEqual(failures, []);
      assert.equal(lost, 0);
      assert.equal(connections, 3);
    },
  });
}

const refusal = named(REFUSALS, "redis, wrong password");
const withoutRedis = await leftOut(refusal.needs);
Deno.test({
  name: `field: a wrong password is told in redis' own words${withoutRedis}`,
  ignore: withoutRedis !== "",
  async fn() {
    using dir = new TempDir();
    const { failures, words } = await runRefusal(refusal, dir.path);
    assert.deepEqual(failures, [], words);
  },
});

Deno.test("field: every example of a protocol is run against its server, and needs nothing more", () => {
  const files = [...Deno.readDirSync(EXAMPLES)].map(({ name }) => name).toSorted();
  const run = new Set(
    SERVERS.flatMap(({ sending }) => "example" in sending ? [sending.example] : []),
  );
  assert.ok(files.length >= 10);
  assert.deepEqual([...run].toSorted(), files);
  for (const file of files) {
    const path = new URL(file, EXAMPLES).pathname;
    assert.deepEqual(readRouteFile(file, Deno.readTextFileSync(path)).problems, []);
  }
});

/** What the shell makes of the printf commands in an example's comment. */
async function printed(example: string): Promise<Uint8Array> {
  const lines = Deno.readTextFileSync(new URL(example, EXAMPLES)).split("\n");
  const printfs = lines.flatMap((line) => /printf '[^']*'/.exec(line)?.[0] ?? []);
  assert.ok(printfs.length > 0, `${example} has no printf`);
  const { stdout } = await new Deno.Command("sh", { args: ["-c", printfs.join("\n")] }).output();
  return stdout;
}

Deno.test("field: the logins that examples tell how to make are those that the ring sends", async () => {
  assert.deepEqual(await printed("redis_auth.json"), bytes("AUTH secret\r\n"));
  assert.deepEqual(await printed("smpp.json"), pdu.smppBind("field", "secret"));
  assert.deepEqual(await printed("gt06.json"), pdu.gt06Login("0123456789012345"));
});

Deno.test("field: what was lost, told twice, out of order or strange is found in a server's output", () => {
  const line = lineOf(RSYSLOG_OCTETS);
  assert.deepEqual(compare("m000000z\n m000002z\nm000001z\nm000001z\n", 4, line), {
    ...{ lost: [3], duplicated: 1, outOfOrder: 1, strange: [] },
  });
  assert.deepEqual(compare("m000000z\nm000001zm000002z\nm000009z\n", 3, line), {
    ...{ lost: [1, 2], duplicated: 0, outOfOrder: 0 },
    strange: ["m000001zm000002z", "number 9"],
  });
  assert.deepEqual(
    compare("<28 set m000000z 0\n>28 no\n<28 set m000001z 0", 2, undefined).lost,
    [],
  );
});
