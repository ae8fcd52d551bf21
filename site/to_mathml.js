// node to_mathml.js FOLDER-OF-MATHJAX: reads [[TeX, is displayed], ...] as JSON and writes the formulas as MathML.
const settings = {
  loader: { load: ["input/tex-full"] },
  tex: { packages: { "[-]": ["bussproofs"] } }, // which has to measure what it draws
};
require(process.argv[2]).init(settings).then((MathJax) => {
  const sources = JSON.parse(require("fs").readFileSync(0));
  console.log(JSON.stringify(sources.map(([tex, display]) => MathJax.tex2mml(tex, { display }))));
});
