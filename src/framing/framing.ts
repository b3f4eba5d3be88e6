/**
 * How packets are told apart in a stream of bytes: what may be written for it, and
 * the one table that documentation, help and errors list it from.
 */

/**
 * Some bytes: as they are, or as pairs of hexadecimal digits, such as `"0d0a"`.
 *
 * @category Framing
 */
export type BytesOrHex = Uint8Array | string;

/**
 * Packets that each end with the same bytes.
 *
 * @category Framing
 */
export interface DelimiterFraming {
  /** Says which framing this is. */
  readonly kind: "delimiter";
  /** What each packet ends with, one byte or more. */
  readonly delimiter: BytesOrHex;
}

/**
 * Packets between start and end bytes.
 *
 * @category Framing
 */
export interface FrameFraming {
  /** Says which framing this is. */
  readonly kind: "frame";
  /** What each packet begins with, one byte or more. */
  readonly start: BytesOrHex;
  /** What each packet ends with, one byte or more. */
  readonly end: BytesOrHex;
  /**
   * One byte that stands before a byte of the packet that is this one itself, or
   * that start or end begin with. Without it a packet cannot hold the end.
   */
  readonly escape?: BytesOrHex;
  /**
   * One byte: what an escaped byte is combined with by exclusive or; `"20"` in HDLC
   * and PPP.
   *
   * @default {"00"}
   */
  readonly xor?: BytesOrHex;
}

/**
 * Packets that say their own length in binary.
 *
 * @category Framing
 */
export interface LengthFraming {
  /** Says which framing this is. */
  readonly kind: "length";
  /** How many bytes the length takes. */
  readonly bytes: 1 | 2 | 4 | 8;
  /**
   * Whether its lowest byte comes first.
   *
   * @default {false}
   */
  readonly littleEndian?: boolean;
  /**
   * How many bytes stand before it, 0 to 255. As many as `header` has unless given;
   * those that are not of `header` are the packet's own.
   */
  readonly offset?: number;
  /**
   * What is added to the length for the number of bytes behind it, trailer
   * included, −65,536 to 65,536: `-4` where a length of 4 bytes counts itself.
   *
   * @default {0}
   */
  readonly adjust?: number;
  /** What each packet begins with, if always with the same bytes. */
  readonly header?: BytesOrHex;
  /** What each packet ends with, if always with the same bytes. */
  readonly trailer?: BytesOrHex;
}

/**
 * Packets that all have the same length, so that nothing has to say it.
 *
 * @category Framing
 */
export interface FixedFraming {
  /** Says which framing this is. */
  readonly kind: "fixed";
  /** How many bytes each packet has, 1 to 65,536. */
  readonly bytes: number;
}

/**
 * A framing as an object.
 *
 * @category Framing
 */
export type FramingDescription =
  | DelimiterFraming
  | FrameFraming
  | LengthFraming
  | FixedFraming
  | { readonly kind: "octet-counting" }
  | { readonly kind: "chunks" };

/**
 * A framing that has a name.
 *
 * @category Framing
 */
export type FramingName =
  | "lines"
  | "octet-counting"
  | "length16"
  | "length32"
  | "chunks"
  | "syslog"
  | "gelf"
  | "mllp"
  | "modbus-tcp"
  | "smpp"
  | "gt06";

/**
 * How packets are told apart in a stream of bytes: a name, a description as text
 * (`"delimiter:0d0a"`), or as an object. The page on protocols beside the README has them all.
 *
 * @category Framing
 */
export type Framing =
  | FramingName
  | `delimiter:${string}`
  | `frame:${string}`
  | `length:${string}`
  | `fixed:${number}`
  | FramingDescription;

/** A framing as documentation, help and errors list it. */
export interface FramingRow {
  /** What is written: a name, or a form with its places. */
  readonly form: string;
  /** What a packet is on the wire, where the descriptions that it stands for do not say it. */
  readonly wire?: string;
  /** Who speaks it. */
  readonly users: string;
}

/** A framing that has a name. */
export interface NamedFraming extends FramingRow {
  readonly form: FramingName;
  /**
   * The descriptions that the name stands for. Of several, a packet is told by what
   * it begins with, and made as the first one that can carry it.
   */
  readonly is?: readonly `${"delimiter" | "frame" | "length"}:${string}`[];
}

/** Every framing that has a name. */
export const NAMED_FRAMINGS: readonly NamedFraming[] = [
  {
    form: "lines",
    is: ["delimiter:0a"],
    wire: "its bytes and a newline (a carriage return before it belongs to the bytes)",
    users: "log lines, carbon, statsd, NDJSON",
  },
  {
    form: "octet-counting",
    wire: "its length in decimal digits, a space, its bytes (RFC 6587)",
    users: "syslog-ng syslog(), logger --octet-count",
  },
  { form: "length16", is: ["length:2"], users: "programs of one's own" },
  { form: "length32", is: ["length:4"], users: "programs of one's own" },
  {
    form: "chunks",
    wire: "its bytes; where it ends is not marked",
    users: "streams without messages, and packets framed before",
  },
  {
    form: "syslog",
    wire: "in: octet-counting or lines, told apart for each message; out: octet-counting",
    users: "rsyslog, logger, omfwd",
  },
  { form: "gelf", is: ["delimiter:00"], users: "Graylog" },
  { form: "mllp", is: ["frame:0b/1c0d"], users: "HL7 version 2" },
  { form: "modbus-tcp", is: ["length:2,offset=4"], users: "Modbus/TCP" },
  { form: "smpp", is: ["length:4,adjust=-4"], users: "SMPP 3.4" },
  {
    form: "gt06",
    is: [
      "length:1,adjust=2,header=7878,trailer=0d0a",
      "length:2,adjust=2,header=7979,trailer=0d0a",
    ],
    users: "GPS trackers, GT06 and its kin",
  },
];

/** Framings that are described by what is written. */
export const DESCRIBED_FRAMINGS: readonly FramingRow[] = [
  {
    form: "delimiter:HEX",
    wire: "its bytes and those given: `delimiter:0d0a`, `delimiter:7c7c`",
    users: "CRLF, NUL, two bars",
  },
  {
    form: "frame:HEX/HEX[,escape=HEX][,xor=HEX]",
    wire: "start, its bytes, end: `frame:02/03,escape=10`, `frame:7e/7e,escape=7d,xor=20`",
    users: "STX/ETX, DLE stuffing, HDLC, PPP",
  },
  {
    form: "length:N[,le][,offset=N][,adjust=N][,header=HEX][,trailer=HEX]",
    wire: "its length in 1, 2, 4 or 8 bytes, and its bytes: `length:4,le,offset=2,adjust=-4`",
    users: "most binary protocols",
  },
  {
    form: "fixed:N",
    wire: "its bytes, always as many: `fixed:4`",
    users: "answers of a few bytes, records",
  },
];

/** The names of framings, for option lists and completion. */
export const FRAMING_NAMES: readonly FramingName[] = NAMED_FRAMINGS.map(({ form }) => form);

/** What a framing may be, in words. */
export const FRAMING_RULE: string = `must be one of ${FRAMING_NAMES.join(", ")}, or one of ` +
  DESCRIBED_FRAMINGS.map(({ form }) => form).join(", ");
