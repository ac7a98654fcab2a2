"""The papers that recommendations are based on."""

GLOROT = "Glorot and Bengio, AISTATS 2010"
HE = "He, Zhang, Ren and Sun, ICCV 2015, arXiv:1502.01852"
CHAOS = (
    "Poole and others, NeurIPS 2016, arXiv:1606.05340",
    "Schoenholz and others, ICLR 2017, arXiv:1611.01232",
    "Hayou, Doucet and Rousseau, ICML 2019, arXiv:1902.06853",
)
SELU = "Klambauer and others, NeurIPS 2017, arXiv:1706.02515"
SAXE = "Saxe, McClelland and Ganguli, ICLR 2014, arXiv:1312.6120"
ISOMETRY = "Pennington, Schoenholz and Ganguli, NeurIPS 2017, arXiv:1711.04735"
IDENTITY = "Le, Jaitly and Hinton, 2015, arXiv:1504.00941"
FORGET = (
    "Gers, Schmidhuber and Cummins, Neural Computation 12, 2000",
    "Jozefowicz, Zaremba and Sutskever, ICML 2015",
)
GPT_2 = "Radford and others, 'Language models are unsupervised multitask learners', 2019"
BERT = "Devlin and others, NAACL 2019, arXiv:1810.04805"
FIXUP = "Zhang, Dauphin and Ma, ICLR 2019, arXiv:1901.09321"
SKIP_INIT = "De and Smith, NeurIPS 2020, arXiv:2002.10444"
ZERO_GAMMA = "Goyal and others, 2017, arXiv:1706.02677"
ATTENTION = "Vaswani and others, NeurIPS 2017, arXiv:1706.03762"
BATCH_NORM = "Ioffe and Szegedy, ICML 2015, arXiv:1502.03167"
DELTA = "Xiao and others, ICML 2018, arXiv:1806.05393"
FOCAL = "Lin and others, ICCV 2017, arXiv:1708.02002"
BAHDANAU = "Bahdanau, Cho and Bengio, ICLR 2015, arXiv:1409.0473"
LUONG = "Luong, Pham and Manning, EMNLP 2015, arXiv:1508.04025"
CONV_LSTM = "Shi and others, NeurIPS 2015, arXiv:1506.04214"
SPECTRAL = "Miyato, Kataoka, Koyama and Yoshida, ICLR 2018, arXiv:1802.05957"
LORA = "Hu and others, ICLR 2022, arXiv:2106.09685"
TIED = "Press and Wolf, EACL 2017, arXiv:1608.05859"
HENAFF = "Henaff, Szlam and LeCun, ICML 2016, arXiv:1602.06662"
