import assert from "node:assert/strict";
import fc from "fast-check";
import { Access, isLoopback } from "../../src/observe/access.ts";

const TOKEN = "0123456789abcdef-token";

function asked(headers: Record<string, string>): Request {
  return new Request("http://127.0.0.1/status", { headers });
}

function form(body: string, headers: Record<string, string> = {}): Request {
  const length = String(new TextEncoder().encode(body).length);
  return new Request("http://127.0.0.1/login", {
    method: "POST",
    body,
    headers: { "content-length": length, ...headers },
  });
}

Deno.test("loopback is this machine and nothing else", () => {
  for (const hostname of ["localhost", "127.0.0.1", "127.9.8.7", "::1"]) {
    assert(isLoopback(hostname), hostname);
  }
  for (
    const hostname of [
      ...["0.0.0.0", "::", "192.0.2.1", "128.0.0.1", "localhost.example.com", "127.0.0.1.example"],
      ...["example.com", "", "1127.0.0.1", "::1.example.com"],
    ]
  ) assert(!isLoopback(hostname), hostname);
});

Deno.test("beyond loopback only with a token, and only with one that cannot be guessed", () => {
  assert.throws(() => new Access("0.0.0.0", undefined), RangeError);
  for (const token of ["", "short", "0123456789abcde", "0123456789 abcdef", "0123456789abcdeü"]) {
    assert.throws(() => new Access("127.0.0.1", token), RangeError, token);
  }
  new Access("127.0.0.1", undefined);
  new Access("0.0.0.0", TOKEN);
});

Deno.test("without a token: a request that names this machine by number, or as localhost", () => {
  const access = new Access("127.0.0.1", undefined);
  for (const host of ["127.0.0.1:9465", "localhost", "LocalHost:1", "[::1]:9465", "192.0.2.1"]) {
    assert.equal(access.refuse(asked({ host })), undefined, host);
  }
  // A strange page can point its own name at us, and the browser then asks for that name.
  for (
    const host of [
      ...["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "evil-localhost"],
      ...["", "127.0.0.1:80@evil.example", "[::1].evil.example", "evil.example:127.0.0.1"],
    ]
  ) assert.equal(access.refuse(asked({ host }))?.status, 403, host);
});

Deno.test("with a token: nothing but the token itself opens", () => {
  const access = new Access("127.0.0.1", TOKEN);
  assert.equal(access.refuse(asked({ authorization: `Bearer ${TOKEN}` })), undefined);
  assert.equal(access.refuse(asked({ authorization: `bearer ${TOKEN}` })), undefined);
  assert.equal(access.refuse(asked({ host: "127.0.0.1" }))?.status, 401);
  for (const authorization of [TOKEN, `Basic ${TOKEN}`, `Bearer ${TOKEN}x`, `Bearer x${TOKEN}`]) {
    assert.equal(access.refuse(asked({ authorization }))?.status, 401, authorization);
  }
  fc.assert(fc.property(fc.stringMatching(/^[\x21-\x7e]{1,40}$/), (guess) => {
    fc.pre(guess !== TOKEN);
    for (const headers of [{ authorization: `Bearer ${guess}` }, { cookie: `sendq=${guess}` }]) {
      assert.equal(access.refuse(asked(headers))?.status, 401);
    }
  }));
});

Deno.test("the form: a cookie that opens this server, no other, and does not hold the token", async () => {
  const access = new Access("127.0.0.1", TOKEN);
  access.port = 9465;
  const cookie = await access.logIn(form(`token=${TOKEN}`));
  assert.match(cookie ?? "", /^sendq_9465=[0-9a-f]{64}; HttpOnly; SameSite=Strict; Path=\/$/);
  assert(!cookie?.includes(TOKEN));
  const [pair = ""] = cookie?.split(";") ?? [];
  assert.equal(access.refuse(asked({ cookie: `a=b; ${pair}; c=d` })), undefined);
  const other = new Access("127.0.0.1", TOKEN);
  other.port = 9466;
  assert.equal(other.refuse(asked({ cookie: pair }))?.status, 401);
  const changed = new Access("127.0.0.1", `${TOKEN}-new`);
  changed.port = 9465;
  assert.equal(changed.refuse(asked({ cookie: pair }))?.status, 401);

  assert.notEqual(await access.logIn(form(`token=%20${TOKEN}%0A`)), undefined, "as it was pasted");
  for (const body of ["token=wrong", "token=", "", `other=${TOKEN}`]) {
    assert.equal(await access.logIn(form(body)), undefined, body);
  }
  assert.equal(await access.logIn(form(`token=${TOKEN}&x=${"x".repeat(5000)}`)), undefined);
  const unsaid = form(`token=${TOKEN}`);
  unsaid.headers.delete("content-length");
  assert.equal(await access.logIn(unsaid), undefined, "of unknown length");
  assert.equal(await new Access("::1", undefined).logIn(form("token=")), undefined);
});
