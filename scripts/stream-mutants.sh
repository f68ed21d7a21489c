#!/usr/bin/env bash
# Breaks the stream engine in one way after another, in a copy of the tree, and asks its tests: each break must make some
# test fail. Arguments choose by name; none means all. Wants a quarter of an hour, most of it compiling. `--texts` runs
# nothing: it says whether every text that would be changed stands in its file once.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
texts_only=0
if [[ ${1-} == --texts ]]; then
	texts_only=1
	shift
fi

# name | file below dataplane/src/stream | what stands there | what stands there instead
mutants=(
	'the sign of the acknowledgement|edits.rs|        offset - growth|        offset + growth'
	'the sign of the sequence number|edits.rs|        offset + growth|        offset - growth'
	'a stored acknowledgement|machine/depart.rs|        let ack = half.acknowledgement();\n|        let ack = half.told;\n'
	'no retention|machine/depart.rs|if event.repeats && !keep_alive {|if false {'
	'the second copy wins|half.rs|self.pieces.first().map_or(stop, \|p\| p.start.min(stop))|stop'
	'acknowledges too much|half.rs|} else if self.acked == self.end {|} else if self.acked <= self.end {'
	'acknowledges nothing on behalf|half.rs|            self.next\n        } else {|            self.decided\n        } else {'
	'holds an acknowledgement|machine/depart.rs|news.then_some(emission)|None'
	'the window goes back|half.rs|self.edge.max(truth.min(room))|truth.min(room)'
	'a closed window is opened|half.rs|if self.window == 0 {|if false {'
	'growth ignores the window|half.rs|(self.acked + i64::from(self.window)).max(self.high)|i64::MAX / 2'
	'SACK blocks round outward|edits.rs|(self.unmap(left, Round::Up), self.unmap(right, Round::Down))|(self.unmap(left, Round::Down), self.unmap(right, Round::Up))'
	'the FIN does not wait|half.rs|self.fin == Some(self.decided)|self.fin.is_some()'
	'a reset at the sender'"'"'s number|machine/depart.rs|if half.has_begun() { half.reset_at() }|if half.has_begun() { (segment.seq, half.reset_at().1) }'
	'a question behind a reset goes nowhere|machine/arrive.rs|        Kind::Question\n|        Kind::Refused(Refusal::Unplaced)\n'
	'a question behind a reset is not listened to|machine/arrive.rs|        half.acknowledge(pool, ack, window, event.start);\n|        let _ = (half, window, ack);\n'
	'any reset is believed|machine/arrive.rs|        if !exact {\n|        if false {\n'
	'a SYN of another connection passes|machine/arrive.rs|            return Kind::Refused(Refusal::Syn);\n|            return Kind::Syn;\n'
	'a connection that opens is moved|machine/arrive.rs|(repeats \|\| !both)|true'
	'an older connection is not heard of|machine/arrive.rs|            self.older_at = Some(segment.ack);\n|            let _ = segment;\n'
	'an older connection is believed anywhere|machine/arrive.rs|!(0..=FIRST_WINDOW).contains(&ack)|!(0..=FIRST_WINDOW - 65_535).contains(&ack)'
	'any reset is of an older connection|machine/arrive.rs|self.older_at.take_if(\|at\| *at == seq).is_some()|self.older_at.is_some()'
	'old timestamps are read|machine/arrive.rs|if self.has_timestamps() && event|if false && event'
	'the urgent pointer stays|machine/depart.rs|half.edits.map(u, Round::Up) - start|u - start'
	'the urgent pointer goes back|machine/arrive.rs|half.urgent.max(Some(start + i64::from(segment.urgent)))|Some(start + i64::from(segment.urgent))'
	'the urgent pointer is forgotten in an edit|half.rs|self.edits.map(u, Round::Up) <= ack|self.edits.map(u, Round::Down) <= ack'
	'an own acknowledgement echoes any clock|machine/depart.rs|            timestamp.echo = recent;|            let _ = (timestamp, recent);'
	'a reset keeps what is held|machine/arrive.rs|        self.clear(pool);\n        self.reset_by|        self.reset = true;\n        self.reset_by'
	'SACK blocks of what has not left|machine.rs|right > half.high {|false {'
	'SACK blocks of what was acknowledged on behalf|machine.rs|(from > half.acknowledgement()).then(|true.then('
	'SACK blocks that are left over|machine.rs|(first && half.edits|(true && half.edits'
	'garbage is read|machine/arrive.rs|if !is_keep_alive(half, &event, fin) {|if true {'
	'deleted bytes pass|half.rs|self.fin.is_none() && self.edits.is_settled()|self.fin.is_none()'
	'any error is believed|machine/narrow.rs|if !half.is_on_its_way(start) {|if false {'
	'segments stay too long|machine/narrow.rs|        self.narrow = room;\n|        let _ = room;\n'
	'what was too long is not sent again|machine/narrow.rs|            half.sent = half.acked;\n|            let _ = half;\n'
	'a closed window is given up|half.rs|if self.answers < MOST_ANSWERS {|if false {'
	'a closed window is asked about for ever|half.rs|if self.answers < MOST_ANSWERS {|if true {'
	'what went into a closed window waits|half.rs|(0, _) if self.tries > 0 => (self.since, self.tries, self.sent) = (None, 0, self.acked),\n|(0, _) => {}\n'
	'no timer|half.rs|        self.sent = self.acked;\n        true|        false'
)

# Takes one of these apart: name, path, from, to.
split() {
	# A bar that belongs to the code is written with a backslash.
	local mutant=${1//'\|'/$'\x01'} file side text
	IFS='|' read -r name file from to <<<"$mutant"
	path=dataplane/src/stream/$file
	for side in from to; do
		text=${!side//$'\x01'/|}
		printf -v "$side" '%s' "${text//'\n'/$'\n'}"
	done
}

# The code goes on; a mutant whose text is gone would break nothing.
for mutant in "${mutants[@]}"; do
	split "$mutant"
	original=$(<"$path")
	behind=${original#*"$from"}
	if [[ $behind == "$original" || $behind == *"$from"* ]]; then
		echo "stream-mutants: '$name': its text does not stand in $path once" >&2
		texts_bad=1
	fi
done
[[ ! ${texts_bad-} ]] || exit 2
((!texts_only)) || exit 0

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z | xargs -0 cp --parents --no-dereference -t "$copy"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}/mutants"

# What catches most, and compiles in the shortest time, comes first.
tests_pass() {
	(cd "$copy" && cargo test --quiet --locked -p dataplane --test stream_exchanges --test stream_resets --test stream_half_open \
		--test stream_path_mtu --test stream_script \
		&& cargo test --quiet --locked -p dataplane --test stream_stacks \
		&& cargo test --quiet --locked -p dataplane --lib stream::) >"$copy/log" 2>&1
}

# A test that fails anyway would catch everything.
if ! tests_pass; then
	echo "stream-mutants: the tests do not pass with nothing broken" >&2
	tail -20 "$copy/log" >&2
	exit 2
fi

failed=0
chosen=0
for mutant in "${mutants[@]}"; do
	split "$mutant"
	if (($#)) && [[ " $* " != *" $name "* ]]; then continue; fi
	chosen=$((chosen + 1))
	original=$(<"$root/$path")
	# The replacement is quoted: an ampersand in it is itself.
	broken=${original/"$from"/"$to"}
	printf '%s\n' "$broken" >"$copy/$path"
	if tests_pass; then
		echo "SURVIVED  $name"
		failed=1
	elif grep -q '^error\(\[E[0-9]*\]\)\?: ' "$copy/log" && ! grep -q 'test result: FAILED' "$copy/log"; then
		echo "stream-mutants: '$name' does not build" >&2
		tail -20 "$copy/log" >&2
		exit 2
	else
		echo "caught    $name"
	fi
	cp "$root/$path" "$copy/$path"
done
if (($#)) && ((chosen != $#)); then
	echo "stream-mutants: of $# names $chosen are known" >&2
	exit 2
fi
exit "$failed"
