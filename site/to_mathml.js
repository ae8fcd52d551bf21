// node to_mathml.js FOLDER-OF-MATHJAX: reads [[TeX, is displayed], ...] as JSON and writes the formulas as MathML.
const settings = {
  loader: { load: ["input/tex-full"] },
  tex: { packages: { "[-]": ["bussproofs"] } }, // which has to measure what it draws
};

// Today's MathML has no rows with a label, as MathJax makes them of \tag: the number becomes the last cell.
function withoutLabels(mathml) {
  const row = /<mlabeledtr[^>]*>\s*(<mtd[^>]*>[\s\S]*?<\/mtd>)([\s\S]*?)<\/mlabeledtr>/g;
  return mathml.replace(row, "<mtr>$2$1</mtr>");
}

require(process.argv[2]).init(settings).then((MathJax) => {
  const sources = JSON.parse(require("fs").readFileSync(0));
  const formulas = sources.map(([tex, display]) => withoutLabels(MathJax.tex2mml(tex, { display })));
  console.log(JSON.stringify(formulas));
});
