import assert from "node:assert/strict";
import { OptionError } from "../../src/base/errors.ts";
import { framePacket } from "../../src/framing/frame_packet.ts";
import {
  DESCRIBED_FRAMINGS,
  type Framing,
  type FramingDescription,
  NAMED_FRAMINGS,
} from "../../src/framing/framing.ts";
import { assertFraming, codecOf } from "../../src/framing/grammar.ts";
import { bytes } from "../support/bytes.ts";

function ruleOf(framing: unknown): string {
  try {
    if (typeof framing === "string") assertFraming(framing, "input");
    else codecOf(Object(framing), "input");
  } catch (error) {
    assert(error instanceof OptionError, String(error));
    assert.equal(error.option, "input");
    return error.rule;
  }
  return assert.fail(`${JSON.stringify(framing)} is a framing`);
}

Deno.test("grammar: text and object say the same", () => {
  const same: [Framing, FramingDescription][] = [
    ["delimiter:0D0a", { kind: "delimiter", delimiter: "0d0a" }],
    ["lines", { kind: "delimiter", delimiter: Uint8Array.of(10) }],
    ["octet-counting", { kind: "octet-counting" }],
    ["chunks", { kind: "chunks" }],
    ["mllp", { kind: "frame", start: "0b", end: Uint8Array.of(0x1c, 0x0d) }],
    ["frame:7e/7e,escape=7d,xor=20", {
      ...{ kind: "frame", start: "7e", end: "7e" },
      ...{ escape: "7d", xor: "20" },
    }],
    ["frame:02/03,escape=10,xor=00", { kind: "frame", start: "02", end: "03", escape: "10" }],
    ["length16", { kind: "length", bytes: 2 }],
    ["length:4,le,offset=2,adjust=-4", {
      ...{ kind: "length", bytes: 4, littleEndian: true },
      ...{ offset: 2, adjust: -4 },
    }],
    ["fixed:4", { kind: "fixed", bytes: 4 }],
    ["length:1,trailer=0d0a,adjust=2,header=7878", {
      ...{ kind: "length", bytes: 1, header: "7878" },
      ...{ trailer: "0d0a", adjust: 2 },
    }],
  ];
  for (const [text, object] of same) {
    assert.deepEqual(codecOf(object, "input").forms, codecOf(text, "input").forms, String(text));
    // The text in full is a framing as well, and the same.
    const [form = ""] = codecOf(object, "input").forms;
    assertFraming(form, "input");
    assert.deepEqual(codecOf(form, "input").forms, [form]);
  }
});

Deno.test("grammar: presets put on the wire what their protocols say", () => {
  const cases: [Framing, string, Uint8Array][] = [
    ["syslog", "<34>1 hi", bytes("8 <34>1 hi")],
    ["gelf", "{}", bytes("{}", [0])],
    ["mllp", "MSH|", bytes([0x0b], "MSH|", [0x1c, 0x0d])],
    // Transaction 1, protocol 0; unit 17 reads 3 registers from 0x6b on.
    [
      "modbus-tcp",
      "\x00\x01\x00\x00\x11\x03\x00\x6b\x00\x03",
      bytes(
        [0, 1, 0, 0, 0, 6, 0x11, 3, 0, 0x6b, 0, 3],
      ),
    ],
    // enquire_link, sequence number 7.
    [
      "smpp",
      "\x00\x00\x00\x15\x00\x00\x00\x00\x00\x00\x00\x07",
      bytes(
        [0, 0, 0, 16, 0, 0, 0, 0x15, 0, 0, 0, 0, 0, 0, 0, 7],
      ),
    ],
    ["fixed:3", "abc", bytes("abc")],
    // A heartbeat's answer: protocol number, serial number, checksum.
    ["gt06", "\x13\x00\x01\x0a\x0b", bytes([0x78, 0x78, 5, 0x13, 0, 1, 10, 11, 13, 10])],
    ["gt06", "x".repeat(256), bytes([0x79, 0x79, 1, 0], "x".repeat(256), [13, 10])],
    ["frame:02/03,escape=10", "a\x03\x10\x02", bytes([2, 97, 16, 3, 16, 16, 16, 2, 3])],
    ["frame:7e/7e,escape=7d,xor=20", "\x7e\x7d", bytes([0x7e, 0x7d, 0x5e, 0x7d, 0x5d, 0x7e])],
    ["length:4,le,offset=2,adjust=-4", "abc", bytes("ab", [5, 0, 0, 0], "c")],
  ];
  for (const [framing, payload, wire] of cases) {
    assert.deepEqual(framePacket(bytes(payload), framing), wire, String(framing));
  }
});

Deno.test("grammar: each row of the table that lists framings is one", () => {
  for (const { form, is = [] } of NAMED_FRAMINGS) {
    assert.equal(codecOf(form, "input").name, form);
    if (is.length === 0) continue;
    const forms = is.map((text) => codecOf(text, "input").forms[0]);
    assert.deepEqual(codecOf(form, "input").forms, forms);
  }
  // What a row has as an example is one, too.
  const examples = DESCRIBED_FRAMINGS.flatMap(({ wire = "" }) =>
    [...wire.matchAll(/`([^`]+)`/g)].map(([, example = ""]) => example)
  );
  assert.ok(examples.length >= 5, `only ${examples.length} examples were found`);
  for (const example of examples) assertFraming(example, "input");
});

Deno.test("grammar: an error says what was expected", () => {
  const all = /^must be one of lines, .*, gt06, or one of delimiter:HEX, frame:HEX\/HEX/;
  for (
    const text of [
      "",
      "line",
      "length64",
      "delimeter:00",
      "frame",
      "octet-counting:1",
      "constructor:1,a=2",
    ]
  ) {
    assert.match(ruleOf(text), all, text);
  }
  for (const object of [{}, { kind: "lines" }, null, 5, [], { kind: "constructor" }]) {
    assert.match(ruleOf(object), /; or an object whose kind is one of delimiter, frame, length/);
  }
  const cases: [unknown, RegExp][] = [
    ["delimiter:", /^must give delimiter as pairs of hexadecimal digits, such as 0d0a, .* ""$/],
    ["delimiter:0", /and not "0"$/],
    ["delimiter:||", /and not "\|\|"$/],
    ["delimiter:0a,le", /and not "0a,le"$/],
    ["frame:0b", /^must give frame:START\/END in hexadecimal digits, such as frame:0b\/1c0d$/],
    ["frame:0b/1c/0d", /^must give frame:START\/END/],
    ["frame:0b/xx", /^must give end as pairs/],
    ["frame:02/03,le", /^may have escape=…, xor=… behind frame:…, each once, and not "le"$/],
    ["frame:02/03,escape=1010", /^must give one byte for escape$/],
    ["frame:02/03,xor=20", /^must give escape where it gives xor$/],
    ["frame:02/0310,escape=10", /holds the escape byte only as the first one of two$/],
    ["frame:02/1010,escape=10", /only as the first one of two$/],
    ["frame:02/1002,escape=10", /of which none is read as another$/],
    ["length:3", /^must have 1, 2, 4 or 8 for the bytes of its length, such as length:4$/],
    ["length:", /^must have 1, 2, 4 or 8/],
    ["length:2,big", /^may have le, offset=…, adjust=…, header=…, trailer=… behind length:…/],
    ["length:2,offset=1,offset=2", /each once, and not "offset=2"$/],
    ["length:2,offset=-1", /^must have an integer from 0 to 255 for offset$/],
    ["length:2,header=7878,offset=1", /^must have an integer from 2 to 255 for offset$/],
    ["length:1,adjust=-255", /^must have an adjust that leaves room for a packet: -255 is too/],
    ["length:2,adjust=x", /^must have an integer from -65536 to 65536 for adjust$/],
    ["fixed:", /^must have an integer from 1 to 65536 for its bytes, such as fixed:4$/],
    ["fixed:2.5", /^must have an integer from 1/],
    [{ kind: "fixed", bytes: 65_537 }, /^must have an integer from 1/],
    [{ kind: "length", bytes: "2" }, /^must have 1, 2, 4 or 8/],
    [{ kind: "length", bytes: 2, littleEndian: 1 }, /^must have true or false for littleEndian$/],
    [{ kind: "length", bytes: 2, ofset: 1 }, /^has no field "ofset" where kind is "length"$/],
    [{ kind: "delimiter", delimiter: new Uint8Array(0) }, /^must give delimiter as pairs/],
    [{ kind: "delimiter", delimiter: 10 }, /^must give delimiter as pairs/],
  ];
  for (const [framing, rule] of cases) assert.match(ruleOf(framing), rule, String(framing));
});
