"""How the page of a study looks: on a phone, in the dark and on paper too."""

CSS = """\
:root {
  color-scheme: light dark;
  --ink: #1c2733; --quiet: #5b6774; --line: #d9dfe5; --ground: #f5f7f9;
  --card: #ffffff; --link: #0063a3; --met: #00704f; --missed: #b34700;
  --alarm: #b00020;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e9ee; --quiet: #9aa7b4; --line: #35404b; --ground: #12171c;
    --card: #1b2229; --link: #6cb8ee; --met: #4cc9a0; --missed: #f29b5c;
    --alarm: #ff6b81;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif;
}
main { max-width: 80rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; }
p { max-width: 46rem; margin: 0 0 .8rem; }
a { color: var(--link); text-decoration: none; }
.summary { font-weight: 600; }
.warning {
  max-width: none; padding: .9rem 1.1rem; font-weight: 700;
  color: var(--alarm); border: 2px solid var(--alarm); border-radius: .5rem;
}
.box {
  overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem;
}
table {
  border-collapse: collapse; width: 100%; font-size: .84rem; line-height: 1.4;
  font-variant-numeric: tabular-nums;
}
th, td { padding: .5rem .6rem; text-align: left; vertical-align: top; }
thead th {
  vertical-align: bottom; font-weight: 600; color: var(--quiet);
  border-bottom: 2px solid var(--line);
}
tbody tr + tr > * { border-top: 1px solid var(--line); }
tbody th {
  position: sticky; left: 0; background: var(--card); font-weight: 600;
  white-space: nowrap;
}
.number { text-align: right; }
td.number { white-space: nowrap; }
s, small, .absent { color: var(--quiet); }
small { font-size: .92em; }
s, .text small { display: block; }
td.text { min-width: 9rem; }
.met span { color: var(--met); font-weight: 600; }
.missed span { color: var(--missed); font-weight: 600; }
sup { line-height: 0; margin-left: .15em; }
.legend, .notes, figcaption, dl { font-size: .88rem; color: var(--quiet); }
.legend { margin-top: .9rem; max-width: none; }
.notes { padding-left: 1.4rem; }
figure {
  margin: 2rem 0; padding: 1rem; background: #ffffff;
  border: 1px solid var(--line); border-radius: .5rem;
}
figure svg {
  display: block; width: 100%; max-width: 60rem; height: auto; margin: 0 auto;
}
figcaption { color: #5b6774; margin-top: .8rem; }
pre { padding: .8rem 1rem; font-size: .86rem; margin: 0 0 1rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.2rem; }
dt { font-weight: 600; }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  main { padding: 1.5rem .8rem 3rem; }
  h1 { font-size: 1.5rem; }
  figure { padding: .4rem; }
  table { font-size: .8rem; }
  th, td { padding: .4rem .45rem; }
  tbody th { white-space: normal; max-width: 5.5rem; }
  td.text { min-width: 7.5rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
}
@media print {
  :root { color-scheme: light; --ground: #ffffff; }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  table { font-size: 7.5pt; }
  th, td { padding: .25rem .35rem; }
  .box { overflow: visible; border: 0; }
  tbody th { position: static; }
  tr, figure { break-inside: avoid; }
}
"""
