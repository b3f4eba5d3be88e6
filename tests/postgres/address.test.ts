import assert from "node:assert/strict";
import { OptionError } from "../../src/base/errors.ts";
import { formatAddress, isQueueUrl, parseQueueUrl } from "../../src/postgres/address.ts";
import { settingsOf } from "../../src/postgres/options.ts";

Deno.test("an address has its parts", () => {
  const url = "postgresql://app:s%40cret@db1,db2:6000,[2001:db8::1]:7000/packets/out%2Fbox" +
    "?sslmode=verify-full&durability=power-loss&weaker=warn";
  assert.deepEqual(parseQueueUrl(url), {
    hosts: [
      { hostname: "db1", port: 5432 },
      { hostname: "db2", port: 6000 },
      { hostname: "2001:db8::1", port: 7000 },
    ],
    database: "packets",
    user: "app",
    password: "s@cret",
    sslMode: "verify-full",
    durability: "power-loss",
    weaker: "warn",
    name: "out/box",
  });
  assert.equal(
    formatAddress(parseQueueUrl(url)),
    "postgres://app@db1:5432,db2:6000,[2001:db8::1]:7000/packets/out%2Fbox",
  );
});

Deno.test("what is no address is refused, without its password", () => {
  for (
    const [url, rule] of [
      ["postgres://app:secret@db1", /must be like/],
      ["postgres://app:secret@db1/", /must be like/],
      ["postgres://db1/packets/outbox", /who logs in/],
      ["postgres://app:secret@db1:0/packets/outbox", /which is none/],
      ["postgres://app:secret@db1,,db2/packets/outbox", /which is none/],
      ["postgres://app:secret@db1/packets/outbox?sslmode=maybe", /none of disable, require/],
      ["postgres://app:secret@db1/packets/outbox?durability=no", /none of machine-loss/],
      ["postgres://app:secret@db1/packets/outbox?weaker=ignore", /none of refuse, warn/],
      ["postgres://app:secret@db1/packets/outbox?sslcert=x", /says sslcert/],
      ["postgres://app@db1/packets/outbox?password=secret", /says password/],
      ["postgres://app@db1/packets/out?user=app&Password=secret&weaker=warn", /says user/],
      ["postgres//app:secret@db1/packets/outbox", /must be like/],
      ["postgres:/app:secret@db1/packets/outbox", /must be like/],
      ["postgres://app:with/secret@db1/packets/outbox", /must be like/],
      ["postgres://app:with@secret@db1/packets/outbox", /must be like/],
      ["postgres://app:secret@db1/packets/%ZZ", /begins no character of UTF-8; for itself .* %25/],
      ["postgres://app:secret@db1/packets/a%ED%A0%80b", /begins no character of UTF-8/],
      ["postgres://app:secret@db1/packets/out?sslmode=require&sslmode=disable", /sslmode twice/],
      ["postgres://app:secret@db1/packets/out?weaker=warn&weaker=warn", /weaker twice/],
      ["Postgres://app:secret@db1/packets/out?sslmode=maybe", /none of disable, require/],
      ["postgres://app:secret@db1/packets/a%01b", /200 characters at most, all of them printable/],
      [`postgres://app:secret@db1/packets/${"x".repeat(201)}`, /200 characters at most/],
    ] as const
  ) {
    assert.throws(() => parseQueueUrl(url), (error) => {
      assert(error instanceof OptionError, String(error));
      assert.match(error.message, rule);
      assert(!Deno.inspect(error).includes("secret"), Deno.inspect(error));
      return true;
    });
  }
});

Deno.test("a path is no address", () => {
  for (
    const path of ["outbox.db", "/var/postgres", "postgres", "postgres:outbox", "./postgres://x"]
  ) {
    assert.equal(isQueueUrl(path), false, path);
  }
  for (const scheme of ["postgres", "postgresql", "Postgres", "POSTGRESQL"]) {
    const url = `${scheme}://app@db1/packets/outbox`;
    assert(isQueueUrl(url), url);
    assert.equal(formatAddress(parseQueueUrl(url)), "postgres://app@db1:5432/packets/outbox");
  }
});

Deno.test("options and address say the same, or one of them nothing", () => {
  const url = "postgres://app:one@db1/packets";
  assert.equal(settingsOf({ url, name: "outbox" }).address.name, "outbox");
  assert.equal(settingsOf({ url: `${url}/outbox` }).durability, "machine-loss");
  assert.equal(settingsOf({ url: `${url}/outbox` }).weaker, "refuse");
  assert.equal(settingsOf({ url: `${url}/outbox?weaker=warn` }).weaker, "warn");
  assert.equal(settingsOf({ url: `${url}/outbox`, password: "two" }).address.password, "two");
  assert.equal(settingsOf({ url: `${url}/outbox?durability=power-loss` }).durability, "power-loss");
  assert.throws(() => settingsOf({ url: `${url}/outbox`, name: "inbox" }), /contradicts the URL/);
  assert.throws(() => settingsOf({ url, name: "x".repeat(201) }), /200 characters/);
});
