"""Words of the embedded German to English grammar, as tables.

Kinds of nouns, by letter: p person, a animal, f food, t thing, r readable,
o can be opened, g fragile, u furniture, c clothing, v vehicle.
"""

# gender (* for the weak declension), singular, plural, English, kinds
NOUNS = """
m Mann Männer man men p
f Frau Frauen woman women p
n Kind Kinder child children p
m* Junge Jungen boy boys p
n Mädchen Mädchen girl girls p
m Lehrer Lehrer teacher teachers p
f Ärztin Ärztinnen doctor doctors p
m* Bauer Bauern farmer farmers p
m Koch Köche chef chefs p
m Freund Freunde friend friends p
m Bruder Brüder brother brothers p
f Schwester Schwestern sister sisters p
f Mutter Mütter mother mothers p
m Vater Väter father fathers p
f Tante Tanten aunt aunts p
m Onkel Onkel uncle uncles p
m* Nachbar Nachbarn neighbor neighbors p
m* Student Studenten student students p
m Arbeiter Arbeiter worker workers p
f Königin Königinnen queen queens p
m König Könige king kings p
m* Soldat Soldaten soldier soldiers p
f Sängerin Sängerinnen singer singers p
m Maler Maler painter painters p
m Gast Gäste guest guests p
m Händler Händler merchant merchants p
f Großmutter Großmütter grandmother grandmothers p
f Schülerin Schülerinnen pupil pupils p
m Bäcker Bäcker baker bakers p
m Hund Hunde dog dogs a
f Katze Katzen cat cats a
n Pferd Pferde horse horses a
m Vogel Vögel bird birds a
f Kuh Kühe cow cows a
f Ziege Ziegen goat goats a
n Schwein Schweine pig pigs a
f Ente Enten duck ducks a
m* Hase Hasen hare hares a
f Maus Mäuse mouse mice a
m* Bär Bären bear bears a
m* Affe Affen monkey monkeys a
n Huhn Hühner chicken chickens a
m Apfel Äpfel apple apples f
f Birne Birnen pear pears f
n Ei Eier egg eggs f
m Kuchen Kuchen cake cakes f
f Suppe Suppen soup soups f
n Brötchen Brötchen roll rolls f
f Kartoffel Kartoffeln potato potatoes f
f Tomate Tomaten tomato tomatoes f
f Wurst Würste sausage sausages f
m Salat Salate salad salads f
f Pizza Pizzen pizza pizzas f
m Keks Kekse cookie cookies f
f Kirsche Kirschen cherry cherries f
n Buch Bücher book books tr
m Brief Briefe letter letters tro
f Zeitung Zeitungen newspaper newspapers tr
n Heft Hefte notebook notebooks tr
f Karte Karten card cards tr
m Ball Bälle ball balls t
m Stuhl Stühle chair chairs tu
m Tisch Tische table tables tu
f Lampe Lampen lamp lamps tgu
n Bild Bilder picture pictures t
m Schlüssel Schlüssel key keys t
f Tasse Tassen cup cups tg
m Teller Teller plate plates tg
n Messer Messer knife knives t
f Flasche Flaschen bottle bottles tgo
m Korb Körbe basket baskets to
f Tasche Taschen bag bags to
f Uhr Uhren clock clocks tgu
n Geschenk Geschenke gift gifts to
f Puppe Puppen doll dolls t
m Spiegel Spiegel mirror mirrors tgu
f Blume Blumen flower flowers t
f Decke Decken blanket blankets t
m Regenschirm Regenschirme umbrella umbrellas to
f Kiste Kisten box boxes to
m Koffer Koffer suitcase suitcases to
m Schrank Schränke cupboard cupboards uo
n Fenster Fenster window windows ugo
f Tür Türen door doors uo
n Tor Tore gate gates uo
m Hut Hüte hat hats c
m Mantel Mäntel coat coats c
n Kleid Kleider dress dresses c
n Hemd Hemden shirt shirts c
f Jacke Jacken jacket jackets c
m Rock Röcke skirt skirts c
m Schuh Schuhe shoe shoes c
m Schal Schals scarf scarves c
f Mütze Mützen cap caps c
n Auto Autos car cars v
n Fahrrad Fahrräder bicycle bicycles v
m Bus Busse bus buses v
n Boot Boote boat boats v
m Zug Züge train trains v
n Motorrad Motorräder motorcycle motorcycles v
m Lastwagen Lastwagen truck trucks v
"""

NAMES = 'Anna Peter Maria Hans Lena Paul'

# adjective (stem after a slash where it differs), English, kinds
ADJECTIVES = """
alt old patrogucv
klein small paftrogucv
groß big paftrogucv
schön beautiful patrogucv
jung young pa
müde/müd tired pa
hungrig hungry pa
stark strong pa
faul lazy pa
klug clever pa
ruhig calm pa
traurig sad pa
mutig brave pa
freundlich friendly pa
schnell fast pav
reich rich p
arm poor p
fleißig diligent p
nett nice p
berühmt famous p
wild wild a
gesund healthy paf
krank sick pa
frisch fresh f
süß sweet f
lecker tasty f
kalt cold f
warm warm fc
neu new trogucv
teuer/teur expensive ftrogucv
billig cheap ftrogucv
rot red ftrogucv
blau blue trogucv
grün green ftrogucv
gelb yellow ftrogucv
schwarz black atrogucv
weiß white atrogucv
braun brown atrogucv
schmutzig dirty atrogucv
sauber clean trogucv
kaputt broken toguv
schwer heavy troguv
dunkel/dunkl dark ugcv
"""

# [prefix+]infinitive, third person, participle (* for sein); English base,
# past; kinds of subjects; objects as [preposition:]case=kinds, or 'dass'
VERBS = """
kaufen kauft gekauft; buy, bought; p; acc=aftcv
verkaufen verkauft verkauft; sell, sold; p; acc=aftcv
sehen sieht gesehen; see, saw; pa; acc=paftucv
suchen sucht gesucht; look for, looked for; pa; acc=paftcv
finden findet gefunden; find, found; pa; acc=paftcv
essen isst gegessen; eat, ate; p; acc=f
fressen frisst gefressen; eat, ate; a; acc=f
probieren probiert probiert; taste, tasted; p; acc=f
schneiden schneidet geschnitten; cut, cut; p; acc=f
lesen liest gelesen; read, read; p; acc=r
tragen trägt getragen; carry, carried; p; acc=t
an+ziehen zieht gezogen; put on, put on; p; acc=c
an+probieren probiert probiert; try on, tried on; p; acc=c
waschen wäscht gewaschen; wash, washed; p; acc=acv
reparieren repariert repariert; repair, repaired; p; acc=uv
malen malt gemalt; paint, painted; p; acc=paftuv
zeichnen zeichnet gezeichnet; draw, drew; p; acc=paftuv
lieben liebt geliebt; love, loved; p; acc=pa
kennen kennt gekannt; know, knew; p; acc=p
besuchen besucht besucht; visit, visited; p; acc=p
begrüßen begrüßt begrüßt; greet, greeted; p; acc=p
fragen fragt gefragt; ask, asked; p; acc=p
hören hört gehört; hear, heard; pa; acc=pav
jagen jagt gejagt; chase, chased; pa; acc=a
fangen fängt gefangen; catch, caught; pa; acc=a
holen holt geholt; fetch, fetched; p; acc=tfc
nehmen nimmt genommen; take, took; p; acc=tfc
verlieren verliert verloren; lose, lost; p; acc=tc
vergessen vergisst vergessen; forget, forgot; p; acc=tc
verstecken versteckt versteckt; hide, hid; p; acc=tfc
stehlen stiehlt gestohlen; steal, stole; p; acc=tfcv
bezahlen bezahlt bezahlt; pay for, paid for; p; acc=tfcv
bauen baut gebaut; build, built; p; acc=uv
zerbrechen zerbricht zerbrochen; break, broke; p; acc=g
putzen putzt geputzt; clean, cleaned; p; acc=ug
ziehen zieht gezogen; pull, pulled; pa; acc=v
schieben schiebt geschoben; push, pushed; p; acc=uv
auf+machen macht gemacht; open, opened; p; acc=o
zu+machen macht gemacht; close, closed; p; acc=o
an+rufen ruft gerufen; call, called; p; acc=p
ein+laden lädt geladen; invite, invited; p; acc=p
ab+holen holt geholt; pick up, picked up; p; acc=pt
mit+bringen bringt gebracht; bring along, brought along; p; acc=tf
mit+nehmen nimmt genommen; take along, took along; p; acc=tfc
weg+werfen wirft geworfen; throw away, threw away; p; acc=tfc
an+sehen sieht gesehen; look at, looked at; pa; acc=paftcv
zurück+geben gibt gegeben; give back, gave back; p; acc=tc
ein+packen packt gepackt; pack, packed; p; acc=tfc
aus+wählen wählt gewählt; choose, chose; p; acc=tfc
helfen hilft geholfen; help, helped; p; dat=pa
danken dankt gedankt; thank, thanked; p; dat=p
folgen folgt gefolgt*; follow, followed; pa; dat=pav
antworten antwortet geantwortet; answer, answered; p; dat=p
vertrauen vertraut vertraut; trust, trusted; pa; dat=p
zu+hören hört gehört; listen to, listened to; pa; dat=p
zu+sehen sieht gesehen; watch, watched; pa; dat=pa
geben gibt gegeben; give, gave; p; dat=p acc=tfc
zeigen zeigt gezeigt; show, showed; p; dat=p acc=atcv
schicken schickt geschickt; send, sent; p; dat=p acc=tc
bringen bringt gebracht; bring, brought; p; dat=p acc=tfc
leihen leiht geliehen; lend, lent; p; dat=p acc=tcv
spielen spielt gespielt; play with, played with; pa; mit:dat=pa
sprechen spricht gesprochen; speak with, spoke with; p; mit:dat=p
warten wartet gewartet; wait for, waited for; p; auf:acc=pv
denken denkt gedacht; think of, thought of; p; an:acc=paf
träumen träumt geträumt; dream of, dreamed of; pa; von:dat=paf
sorgen sorgt gesorgt; care for, cared for; p; für:acc=pa
kämpfen kämpft gekämpft; fight against, fought against; pa; gegen:acc=pa
schlafen schläft geschlafen; sleep, slept; pa;
lachen lacht gelacht; laugh, laughed; p;
weinen weint geweint; cry, cried; p;
singen singt gesungen; sing, sang; pa;
tanzen tanzt getanzt; dance, danced; pa;
arbeiten arbeitet gearbeitet; work, worked; pa;
schwimmen schwimmt geschwommen*; swim, swam; pa;
laufen läuft gelaufen*; run, ran; pa;
springen springt gesprungen*; jump, jumped; pa;
auf+wachen wacht gewacht*; wake up, woke up; pa;
auf+stehen steht gestanden*; get up, got up; pa;
an+kommen kommt gekommen*; arrive, arrived; pa;
weg+laufen läuft gelaufen*; run away, ran away; pa;
ein+schlafen schläft geschlafen*; fall asleep, fell asleep; pa;
sagen sagt gesagt; say, said; p; dass
glauben glaubt geglaubt; believe, believed; p; dass
hoffen hofft gehofft; hope, hoped; p; dass
versprechen verspricht versprochen; promise, promised; p; dass
"""

# gender, German, English, i for inside, n for around
PLACES = """
m Garten garden i
f Küche kitchen i
f Schule school in
m Park park i
f Kirche church in
m Wald forest i
f Stadt city i
n Haus house in
m Bahnhof station in
n Museum museum in
f Bibliothek library in
n Dorf village i
n Restaurant restaurant in
m Laden shop in
n Büro office i
f Brücke bridge n
m Brunnen fountain n
n Krankenhaus hospital in
"""

TIMES = """
heute; today; npm
gestern; yesterday; p
letzte Woche; last week; p
jetzt; now; n
jeden Tag; every day; n
bald; soon; m
morgen; tomorrow; m
am Montag; on Monday; npm
am Freitag; on Friday; npm
am Abend; in the evening; npm
am Morgen; in the morning; npm
im Sommer; in summer; npm
im Winter; in winter; npm
"""

PREPOSITIONS = {
  'in': 'in',
  'vor': 'in front of',
  'hinter': 'behind',
  'neben': 'next to',
}

# ich, du, er, wir; the third plural is like the first
MODALS = {
  'can': ('kann', 'kannst', 'kann', 'können'),
  'must': ('muss', 'musst', 'muss', 'müssen'),
  'should': ('soll', 'sollst', 'soll', 'sollen'),
  'may': ('darf', 'darfst', 'darf', 'dürfen'),
  'will': ('werde', 'wirst', 'wird', 'werden'),
  'want to': ('will', 'willst', 'will', 'wollen'),
}
AUXILIARIES = {
  'haben': ('habe', 'hast', 'hat', 'haben'),
  'sein': ('bin', 'bist', 'ist', 'sind'),
  'war': ('war', 'warst', 'war', 'waren'),
}

# German, English, person
PRONOUNS = (
  ('ich', 'I', '1s'),
  ('du', 'you', '2s'),
  ('er', 'he', '3s'),
  ('sie', 'she', '3s'),
  ('wir', 'we', '1p'),
  ('sie', 'they', '3p'),
)

# stem, English singular, English plural
DETERMINERS = {
  'd': ('the', 'the'),
  'ein': ('a', None),
  'dies': ('this', 'these'),
  'jed': ('every', None),
  'mein': ('my', 'my'),
  'dein': ('your', 'your'),
  'unser': ('our', 'our'),
  'zwei': (None, 'two'),
  'drei': (None, 'three'),
  'viel': (None, 'many'),
}

CONJUNCTIONS = {
  'weil': 'because',
  'wenn': 'when',
  'obwohl': 'although',
}

QUESTIONS = {'warum': 'why', 'wann': 'when', 'wo': 'where'}
