import assert from "node:assert/strict";
import { QueueFileError } from "../../src/base/errors.ts";
import { spellingsOf } from "../../src/postgres/address.ts";
import { setUp } from "../../src/postgres/setup.ts";
import { Sendq } from "../cli/helpers.ts";
import { unless } from "../queue/helpers.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

const PASSWORDS = [
  "p@:/?#%&=+ \u00e9",
  "a\u00a0b\u200bc",
  "e\u0301x",
  "\ufb01x\u00adz",
  // No rule knows one of its characters, so that a server takes it as it is.
  "\ufb01x\u{1f600}",
];

Deno.test("a password that needs no preparation has one spelling", () => {
  for (const password of ["", "secret", "\u00e9", "\u{1f600}", " '\"\\%"]) {
    assert.deepEqual(spellingsOf(password), [password]);
  }
  assert.deepEqual(spellingsOf("\u00aa\u00ad\u2168"), ["aIX", "\u00aa\u00ad\u2168"]);
});

Deno.test({
  ...unless(NO_POSTGRES, "a password of any characters opens what it opens for psql"),
  async fn(t) {
    await using server = await PostgresServer.start();
    const { directory, port } = server;
    await server.sql("CREATE USER other; GRANT CREATE ON DATABASE postgres TO other");
    await server.sql("ALTER USER other CREATEROLE");
    for (const method of ["scram-sha-256", "md5"]) {
      Deno.writeTextFileSync(
        `${directory}/pg_hba.conf`,
        `host all other 127.0.0.1/32 ${method}\nhost all all 127.0.0.1/32 trust\n`,
      );
      await server.reload();
      for (const password of PASSWORDS) {
        await t.step(`${method}: ${JSON.stringify(password)}`, async () => {
          await server.sql(
            `SET password_encryption = '${method}'; ALTER USER other PASSWORD '${password}'`,
          );
          const url = (typed: string) =>
            `postgres://other:${encodeURIComponent(typed)}@127.0.0.1:${port}/postgres/outbox`;
          assert.equal((await setUp(url(password))).queue, "outbox");
          assert.equal(
            (await setUp(server.url("outbox", "postgres", "other"), password)).version > 0,
            true,
          );
          await assert.rejects(
            setUp(url(`${password}\u00ad!`)),
            (error) =>
              error instanceof QueueFileError &&
              /Check the user and the password/.test(error.message),
          );
        });
      }
    }
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "PGPASSWORD is for addresses without a password, and for no others"),
  async fn(t) {
    await using server = await PostgresServer.start();
    await server.makeQueue("outbox");
    await server.sql("CREATE USER other PASSWORD 'right'; GRANT sendq_operator TO other");
    Deno.writeTextFileSync(
      `${server.directory}/pg_hba.conf`,
      "host all other 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n",
    );
    await server.reload();
    const directory = Deno.makeTempDirSync({ prefix: "sendq-password-" });
    const at = (login: string) =>
      `postgres://${login}@127.0.0.1:${server.port}/postgres/outbox?durability=power-loss`;
    const run = async (address: string, password: string) => {
      for (
        const args of [
          ["enqueue", "-q", address, "one"],
          ["status", "-q", address],
          ["list", "-q", address],
          ["remove", "--all", "--yes", "-q", address],
          [
            "forward",
            "-q",
            `${directory}/edge.db`,
            "--to",
            address,
            "--edge",
            "one",
            "-i",
            "lines",
          ],
          ["postgres", "setup", address],
        ]
      ) {
        const env = { PGPASSWORD: password };
        const flags = ["--allow-net", "--allow-read", "--allow-write", "--allow-ffi"];
        await using command = new Sendq([...flags, "--allow-env=PGPASSWORD"], args, env);
        assert.equal(await command.runWith(""), 0, `${args[0]}: ${command.stderr}`);
      }
    };
    try {
      await t.step("in the URL", () => run(at("other:right"), "wrong"));
      await t.step("in the variable", () => run(at("other"), "right"));
    } finally {
      Deno.removeSync(directory, { recursive: true });
    }
  },
});
