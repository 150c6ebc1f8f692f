// Parses an exposition from standard input and prints what the parser makes of it, as JSON.
import { readFileSync } from "node:fs";
import parsePrometheusTextFormat from "parse-prometheus-text-format";

const parsed = parsePrometheusTextFormat(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(parsed));
