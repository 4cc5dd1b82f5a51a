"""The small fixed facts that the simulated questions are about."""

_CAPITALS = """
Kenya:Nairobi Norway:Oslo Peru:Lima Japan:Tokyo Egypt:Cairo Canada:Ottawa Portugal:Lisbon
Hungary:Budapest Vietnam:Hanoi Chile:Santiago Greece:Athens Iceland:Reykjavik Ghana:Accra
Turkey:Ankara Morocco:Rabat Finland:Helsinki Cuba:Havana Poland:Warsaw Austria:Vienna
Australia:Canberra Nepal:Kathmandu Senegal:Dakar Ireland:Dublin Colombia:Bogota Qatar:Doha
Bulgaria:Sofia Uganda:Kampala Jordan:Amman Latvia:Riga Ecuador:Quito Croatia:Zagreb
Uruguay:Montevideo Mongolia:Ulaanbaatar Estonia:Tallinn Thailand:Bangkok Serbia:Belgrade
Lebanon:Beirut Denmark:Copenhagen Rwanda:Kigali Armenia:Yerevan Albania:Tirana Malta:Valletta
Jamaica:Kingston Zambia:Lusaka Fiji:Suva Laos:Vientiane Romania:Bucharest Tunisia:Tunis
Namibia:Windhoek Georgia:Tbilisi Slovenia:Ljubljana Angola:Luanda Iraq:Baghdad Bhutan:Thimphu
Paraguay:Asuncion Lithuania:Vilnius Libya:Tripoli Slovakia:Bratislava Belgium:Brussels
Sweden:Stockholm
"""

# English: Spanish, French, German.
_TRANSLATIONS = """
house:casa:maison:Haus dog:perro:chien:Hund cat:gato:chat:Katze water:agua:eau:Wasser
bread:pan:pain:Brot tree:árbol:arbre:Baum sun:sol:soleil:Sonne moon:luna:lune:Mond
book:libro:livre:Buch table:mesa:table:Tisch chair:silla:chaise:Stuhl door:puerta:porte:Tür
window:ventana:fenêtre:Fenster street:calle:rue:Straße city:ciudad:ville:Stadt
milk:leche:lait:Milch cheese:queso:fromage:Käse apple:manzana:pomme:Apfel fish:pescado:poisson:Fisch
bird:pájaro:oiseau:Vogel horse:caballo:cheval:Pferd sea:mar:mer:Meer river:río:rivière:Fluss
mountain:montaña:montagne:Berg snow:nieve:neige:Schnee rain:lluvia:pluie:Regen
night:noche:nuit:Nacht day:día:jour:Tag week:semana:semaine:Woche year:año:année:Jahr
hand:mano:main:Hand eye:ojo:œil:Auge heart:corazón:cœur:Herz friend:amigo:ami:Freund
mother:madre:mère:Mutter father:padre:père:Vater child:niño:enfant:Kind
letter:carta:lettre:Brief key:llave:clé:Schlüssel garden:jardín:jardin:Garten
flower:flor:fleur:Blume kitchen:cocina:cuisine:Küche
bed:cama:lit:Bett shoe:zapato:chaussure:Schuh train:tren:train:Zug ship:barco:bateau:Schiff
bridge:puente:pont:Brücke church:iglesia:église:Kirche school:escuela:école:Schule
king:rey:roi:König island:isla:île:Insel fire:fuego:feu:Feuer gold:oro:or:Gold
silver:plata:argent:Silber salt:sal:sel:Salz egg:huevo:œuf:Ei knife:cuchillo:couteau:Messer
spoon:cuchara:cuillère:Löffel clock:reloj:horloge:Uhr stone:piedra:pierre:Stein
"""

_ELEMENTS = """
H:Hydrogen He:Helium Li:Lithium Be:Beryllium C:Carbon N:Nitrogen O:Oxygen F:Fluorine Ne:Neon
Na:Sodium Mg:Magnesium Al:Aluminium Si:Silicon P:Phosphorus S:Sulfur Cl:Chlorine Ar:Argon
K:Potassium Ca:Calcium Ti:Titanium Cr:Chromium Mn:Manganese Fe:Iron Co:Cobalt Ni:Nickel Cu:Copper
Zn:Zinc Br:Bromine Kr:Krypton Ag:Silver Sn:Tin I:Iodine Xe:Xenon W:Tungsten Pt:Platinum Au:Gold
Hg:Mercury Pb:Lead U:Uranium
"""


def _words(text: str) -> tuple[str, ...]:
    """Return the words of a text."""
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    """Return the comma-separated phrases of a text."""
    return tuple(text.split(","))


CAPITALS: dict[str, str] = dict(pair.split(":") for pair in _CAPITALS.split())
TRANSLATIONS: dict[str, dict[str, str]] = {
    english: dict(zip(("Spanish", "French", "German"), rest, strict=True))
    for english, *rest in (entry.split(":") for entry in _TRANSLATIONS.split())
}
ELEMENTS: dict[str, str] = dict(pair.split(":") for pair in _ELEMENTS.split())

WORDS = _words(
    """
    lantern marble pocket timber velvet anchor basket candle desert engine falcon garlic hammer
    insect jungle kettle ladder magnet needle orchid pepper quartz ribbon saddle tunnel urchin
    violin walnut yellow zipper blanket cabinet diamond feather gravity harvest journal kitchen
    library machine network orchard pattern quarter rainbow station theatre uniform village weather
    bracelet calendar dinosaur elephant festival geometry hospital instinct keyboard landmark
    mountain notebook operator platform question railroad sandwich treasure umbrella vacation
    workshop almanac bicycle compass dolphin emerald fortune glacier horizon
    """
)

# One large unit, how many of the small one it holds, the small one.
UNITS: tuple[tuple[str, int, str], ...] = (
    ("kilometres", 1000, "metres"),
    ("metres", 100, "centimetres"),
    ("kilograms", 1000, "grams"),
    ("litres", 1000, "millilitres"),
    ("days", 24, "hours"),
    ("hours", 60, "minutes"),
    ("minutes", 60, "seconds"),
    ("weeks", 7, "days"),
    ("miles", 5280, "feet"),
    ("feet", 12, "inches"),
    ("pounds", 16, "ounces"),
    ("tonnes", 1000, "kilograms"),
)

MONTHS = _words(
    "January February March April May June July August September October November December"
)
WEEKDAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")

CUSTOMERS = _phrases(
    "Marta Silva,Jonas Berg,Aiko Tanaka,Luca Moretti,Nadia Rahman,Piotr Nowak,Elena Popova,"
    "Samuel Mensah,Ingrid Dahl,Rafael Ortiz,Chloe Martin,Omar Haddad"
)
GOODS = _phrases("lamps,chairs,notebooks,keyboards,bicycles,teapots,carpets,printers")

REVIEWED = _phrases(
    "hotel,phone,restaurant,headset,novel,course,jacket,blender,museum,airline,camera,app"
)
PRAISE = (
    "exceeded every expectation",
    "was a joy from start to finish",
    "is the best purchase I made this year",
    "made me smile every single day",
    "works beautifully and feels solid",
    "was worth every cent",
    "left the whole family delighted",
    "is something I recommend to everyone",
)
BLAME = (
    "broke after two days",
    "was a waste of money",
    "left me bored and annoyed",
    "is the worst I have tried so far",
    "never did what the advert promised",
    "smelled awful and felt cheap",
    "made me ask for a refund at once",
    "was rude, slow and overpriced",
)
OPENINGS = (
    "I bought it in spring.",
    "A friend had told me about it.",
    "We waited three weeks for it.",
    "This was my second try.",
    "My sister chose it.",
    "It came up in a sale.",
)
