import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { isLoopback } from "../../src/kernel/ip_address.ts";
import { Access } from "../../src/observe/access.ts";
import type { HttpRequest } from "../../src/observe/listener.ts";
import { ManualClock } from "../support/manual_clock.ts";

const TOKEN = "0123456789abcdef-token";

let peers = 0;

/** A request from a peer of its own, so that no guess of another test counts. */
function asked(headers: Record<string, string>, body?: string): HttpRequest {
  return {
    method: body === undefined ? "GET" : "POST",
    pathname: body === undefined ? "/status" : "/login",
    peer: `peer ${peers++}`,
    header: (name) => headers[name],
    body,
  };
}

/** The login form; undefined: it is too large. */
function form(body: string | undefined): HttpRequest {
  return { ...asked({}, ""), body };
}

function accessOf(hostname: string, token: string | undefined): Access {
  return new Access(hostname, token, new ManualClock());
}

function cookieFor(access: Access, body: string | undefined): string | undefined {
  const answer = access.logIn(form(body));
  return "cookie" in answer ? answer.cookie : undefined;
}

Deno.test("loopback is this machine and nothing else", () => {
  for (
    const hostname of [
      "localhost",
      "127.0.0.1",
      "127.9.8.7",
      "::1",
      "0:0:0:0:0:0:0:1",
      "::ffff:127.0.0.1",
    ]
  ) {
    assert(isLoopback(hostname), hostname);
  }
  for (
    const hostname of [
      ...["0.0.0.0", "::", "192.0.2.1", "128.0.0.1", "localhost.example.com", "127.0.0.1.example"],
      ...["example.com", "", "1127.0.0.1", "::1.example.com", "::2", "::ffff:192.0.2.1"],
    ]
  ) assert(!isLoopback(hostname), hostname);
});

Deno.test("beyond loopback only with a token, and only with one that cannot be guessed", () => {
  assert.throws(() => accessOf("0.0.0.0", undefined), RangeError);
  for (const token of ["", "short", "0123456789abcde", "0123456789 abcdef", "0123456789abcdeü"]) {
    assert.throws(() => accessOf("127.0.0.1", token), RangeError, token);
  }
  accessOf("127.0.0.1", undefined);
  accessOf("0.0.0.0", TOKEN);
});

Deno.test("without a token: a request that names this machine by number, or as localhost", () => {
  const access = accessOf("127.0.0.1", undefined);
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
  const access = accessOf("127.0.0.1", TOKEN);
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

Deno.test("the form: a cookie that opens this server, no other, and does not hold the token", () => {
  const access = accessOf("127.0.0.1", TOKEN);
  access.port = 9465;
  const cookie = cookieFor(access, `token=${TOKEN}`);
  assert.match(cookie ?? "", /^sendq_9465=[0-9a-f]{64}; HttpOnly; SameSite=Strict; Path=\/$/);
  assert(!cookie?.includes(TOKEN));
  const [pair = ""] = cookie?.split(";") ?? [];
  assert.equal(access.refuse(asked({ cookie: `a=b; ${pair}; c=d` })), undefined);
  const other = accessOf("127.0.0.1", TOKEN);
  other.port = 9466;
  assert.equal(other.refuse(asked({ cookie: pair }))?.status, 401);
  const changed = accessOf("127.0.0.1", `${TOKEN}-new`);
  changed.port = 9465;
  assert.equal(changed.refuse(asked({ cookie: pair }))?.status, 401);

  assert.notEqual(cookieFor(access, `token=%20${TOKEN}%0A`), undefined, "as it was pasted");
  for (const body of ["token=wrong", "token=", "", `other=${TOKEN}`]) {
    assert.equal(cookieFor(access, body), undefined, body);
  }
  assert.equal(cookieFor(access, undefined), undefined, "too large");
  assert.equal(cookieFor(accessOf("::1", undefined), "token="), undefined);
});

Deno.test("wrong tokens: ten at once, then one a second, and each peer has its own", () => {
  const clock = new ManualClock();
  const access = new Access("0.0.0.0", TOKEN, clock);
  const ask = (peer: string, token: string) =>
    access.refuse({ ...asked({ authorization: `Bearer ${token}` }), peer })?.status;
  for (let guess = 0; guess < 10; guess++) assert.equal(ask("eve", `guess-${guess}`), 401);
  assert.equal(ask("eve", "guess-10"), 429);
  assert.equal(ask("eve", TOKEN), 429, "not looked at");
  assert.equal(ask("bob", TOKEN), undefined);
  clock.advance(1000);
  assert.equal(ask("eve", "guess-11"), 401);
  assert.equal(ask("eve", "guess-12"), 429);
});
