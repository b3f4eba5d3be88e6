/** TLS to the database, with a real server and the certificates of the tests. */
import assert from "node:assert/strict";
import { runWith } from "../cli/helpers.ts";
import { unless } from "../queue/helpers.ts";
import { fileOf } from "../tls/helpers.ts";
import { until } from "../support/until.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

/** Gives a server a certificate of the tests, and takes connections over TLS alone. */
async function speakTls(server: PostgresServer, certificate: string): Promise<void> {
  for (const [name, mode] of [["pem", 0o644], ["key", 0o600]] as const) {
    const path = `${server.directory}/server.${name}`;
    Deno.writeFileSync(path, Deno.readFileSync(fileOf(`${certificate}.${name}`)), { mode });
    if (Deno.uid() === 0) Deno.chownSync(path, 65534, 65534);
  }
  server.set("ssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'");
  const hosts = ["127.0.0.1/32", "::1/128"].map((host) => `hostssl all all ${host} trust\n`);
  Deno.writeTextFileSync(`${server.directory}/pg_hba.conf`, hosts.join(""));
  await server.reload();
}

Deno.test({
  ...unless(NO_POSTGRES, "over TLS: required, and with the certificate checked"),
  async fn() {
    await using server = await PostgresServer.start();
    await server.makeQueue("outbox");
    await speakTls(server, "server");
    const at = (query: string, host = "localhost") =>
      `postgres://postgres@${host}:${server.port}/postgres/outbox?durability=power-loss${query}`;
    const run = (url: string, ...flags: string[]) => {
      const net = `--allow-net=localhost:${server.port},127.0.0.1:${server.port}`;
      return runWith(["--no-prompt", net, ...flags], ["enqueue", "-q", url, "one"]);
    };
    const trusting = `--cert=${fileOf("authority.pem")}`;

    await until("clear text is refused", async () => (await run(at(""))).code === 1);
    assert.match((await run(at(""))).err, /pg_hba\.conf/);
    const stored = (id: number) => ({ code: 0, out: `stored 1 packet, id ${id}\n`, err: "" });
    // Whoever it is: what is said is hidden from who only listens.
    assert.deepEqual(await run(at("&sslmode=require")), stored(1));
    const checked = await run(at("&sslmode=verify-full"));
    assert.equal(checked.code, 1);
    assert.match(checked.err, /certificate/i);
    assert.deepEqual(await run(at("&sslmode=verify-full"), trusting), stored(2));

    // A certificate of another host, and one that is no longer good.
    for (
      const [name, words] of [["other", /altname|not valid for/i], [
        "expired",
        /expired|unable to verify/i,
      ]] as const
    ) {
      await speakTls(server, name);
      await until(`${name} is refused`, async () => {
        const { code, err } = await run(at("&sslmode=verify-full"), trusting);
        return code === 1 && words.test(err);
      });
      assert.equal((await run(at("&sslmode=require"), trusting)).code, 0);
    }
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "a certificate is checked for the address that is connected to"),
  async fn(t) {
    await using server = await PostgresServer.start();
    await server.makeQueue("outbox");
    server.set("listen_addresses = '127.0.0.1, ::1'");
    await speakTls(server, "name");
    await server.down("fast");
    await server.up();
    const run = (host: string) =>
      runWith(
        [
          ...["--no-prompt", `--cert=${fileOf("authority.pem")}`],
          `--allow-net=localhost:${server.port},127.0.0.1:${server.port},[::1]:${server.port}`,
        ],
        [
          ...["enqueue", "-q"],
          `postgres://postgres@${host}:${server.port}/postgres/outbox?durability=power-loss` +
          "&sslmode=verify-full",
          "one",
        ],
      );
    // Where the machine has no such address, the server has told so and listens at the other one.
    const hosts = server.log.includes('on IPv6 address "::1"')
      ? ["127.0.0.1", "[::1]"]
      : ["127.0.0.1"];

    await t.step("one of a name is none of an address", async () => {
      assert.equal((await run("localhost")).code, 0);
      for (const host of hosts) {
        const { code, err } = await run(host);
        assert.equal(code, 1, host);
        assert.match(err, /certificate/i, host);
      }
    });

    await t.step("one of an address is none of a name", async () => {
      await speakTls(server, "addresses");
      await until("the name is refused", async () => (await run("localhost")).code === 1);
      for (const host of hosts) {
        const { code, err } = await run(host);
        assert.equal(code, 0, `${host}: ${err}`);
      }
    });
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "a server without TLS: said so, and not that it is to be tried again"),
  async fn() {
    await using server = await PostgresServer.start();
    for (const mode of ["require", "verify-full"]) {
      const { code, err } = await runWith(
        ["--no-prompt", `--allow-net=127.0.0.1:${server.port}`],
        ["enqueue", "-q", `${server.url("outbox")}?sslmode=${mode}`, "one"],
      );
      assert.equal(code, 1);
      assert.match(
        err,
        new RegExp(
          `the server 127\\.0\\.0\\.1:[0-9]+ speaks no TLS, and sslmode=${mode} asks for it\\. ` +
            "Nothing was stored.*ssl = on.*sslmode=disable",
        ),
      );
      assert.doesNotMatch(err, /try again/i);
    }
  },
});
