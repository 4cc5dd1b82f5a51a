"""The words and phrases that `wording` knows: function words, synonyms, cues, question words.

Plain forms throughout: lower case, without accents and apostrophes.
"""

# ruff: noqa: RUF001  (typographic quotes are meant)

import re
import unicodedata
from enum import IntEnum, IntFlag
from typing import Final


class Cue(IntFlag):
    """What the opening of a query says about the answer before it."""

    COMPLAINT = 1  # "that's wrong", "try again"
    APPROVAL = 2  # "thanks", "perfect"
    SEQUEL = 4  # "and ...", "now ...", "what about ..."
    COMMAND = 8  # "continue", "next": nothing else
    REFERS = 16  # "it", "the second one": to what was said before
    COMPARES = 32  # "better than", "versus"


class Asks(IntEnum):
    """What kind of answer a question wants."""

    ANYTHING = 0  # a request, or no question word
    WHAT = 1
    HOW = 2
    WHY = 3
    WHEN = 4
    WHERE = 5
    WHO = 6
    AMOUNT = 7
    WHETHER = 8


# --- word lists -------------------------------------------------------------------------------


def listed(*lines: str) -> frozenset[str]:
    """Return the words of some lines in their plain form."""
    return frozenset(plain(word) for line in lines for word in line.split())


def plain(word: str) -> str:
    """Return a word in lower case, without accents and apostrophes."""
    lowered = word.lower().replace("'", "")
    if lowered.isascii():
        return lowered
    spread = unicodedata.normalize("NFKD", lowered)
    return "".join(c for c in spread if not unicodedata.combining(c))


FUNCTION_WORDS: Final = {
    "en": listed(
        "a an the and or but if then so than as at by for from in into of off on onto out over to",
        "up with without about after before between during i me my mine we us our you your yours",
        "he him his she her it its they them their this that these those there here who whom whose",
        "which what when where why how is are was were be been being am do does did done doing",
        "have has had having can could may might must shall should will would not nor please pls",
        "kindly hi hello hey ok okay just also too very really quite some any all each every more",
        "most lot lots bit tell give want need like let know think one ones thing things way ways",
        "im id ive ill dont cant wont isnt arent doesnt didnt whats hows whos lets theres youre",
        "thats no",
    ),
    "de": listed(
        "der die das den dem des ein eine einen einem einer eines und oder aber wenn dann als wie",
        "was wer wo wann warum wieso weshalb welche welcher welches worin womit ist sind war waren",
        "sein bin hat haben hatte kann können könnte muss müssen soll sollen wird werden würde ich",
        "du er sie es wir ihr mein meine meinen dein deine mich dich mir dir sich zu im in an am",
        "auf aus bei mit nach von vom zum zur für über unter zwischen um nicht kein keine bitte",
        "mal man lautet gibt noch sehr viel viele",
    ),
    "fr": listed(
        "le la les un une des du de et ou mais si que qui quoi quel quelle quels quelles où quand",
        "comment pourquoi combien est sont était être a ont avoir peut peux je tu il elle nous",
        "vous ils mon ma mes ton ta tes son sa ses ce cette ces dans en sur sous pour par avec",
        "sans ne pas plus au aux y se s c d l j n m t qu entre svp fait",
    ),
    "es": listed(
        "el la los las un una unos unas y o pero si que quien quién qué cual cuál cuáles cuando",
        "cuándo donde dónde como cómo por para con sin en del al de es son era ser está están fue",
        "hay he ha yo tú él ella nosotros mi mis tu tus su sus se no lo le les me te más muy puedo",
        "puede favor cuánto cuánta cuántos tiene entre",
    ),
    "it": listed(
        "il lo la i gli le un uno una e o ma se che chi cosa quale quali quando dove come perché",
        "per con senza in di da del della dei al alla è sono era essere ho ha mi ti si ci vi mio",
        "tuo suo non più molto posso può quanto quanti",
    ),
    "pt": listed(
        "o a os as um uma uns umas e ou mas se que quem qual quais quando onde como por para com",
        "sem em do da dos das no na ao à é são era ser foi há tem eu tu ele ela nós meu minha seu",
        "sua não mais muito posso pode porque quanto quantos",
    ),
}
GENERIC: Final = listed(
    "explain describe write create generate compose draft list name define definition meaning mean",
    "stand example examples summary summarise summarize compare difference differ recommend",
    "suggest find calculate compute convert translate turn return work works working use used",
    "using possible best good great better new first short brief quickly fast quick easy simple",
    "detail detailed look looks process step steps reason reasons cause causes result point points",
    "people number type kind sort word words sentence text question answer change add start take",
    "takes keep put set go come coming happen allowed able time principle method safe tips idea",
    "ideas small high low call called seem become try trying going gets getting made making done",
    "means again still back actually basically exactly currently usually normally different",
    "important main common specific general certain overall full whole own same every today",
    "information info anything something someone anyone everything please thank provide include",
    "including contain based following given below above many several various few around within",
    "per via down day days year show get make makes help say years keeps comes goes went correct",
    "right proper properly nice cool top meant term erkläre erklären beschreibe schreibe schreiben",
    "nenne unterschied unterscheiden mach machen beste explique expliquer écris écrire différence",
    "faire meilleur explica explicar escribe diferencia hacer mejor manera",
)

# What may be asked of one thing, and what may be done to it: whoever swaps one of these for another
# that is no synonym wants something else.
ASPECTS: Final = listed(
    "cause effect consequence result symptom treatment treat cure price cost population capital",
    "area size height weight age length duration speed history founder founded invented inventor",
    "author born birth die death origin location date benefit risk danger advantage disadvantage",
    "drawback dose dosage ingredient calorie maximum minimum largest smallest longest shortest",
    "highest lowest best worst oldest youngest first last introduction conclusion import export",
    "create delete insert install uninstall update upgrade configure activate deactivate enable",
    "disable start stop open close read write encrypt decrypt upload download buy sell rent hire",
    "increase decrease split push pull hello goodbye morning night review critic pronounce spell",
    "synonym antonym plural singular hour address sort filter reverse import drop harvest plant",
    "grow store freeze clean wash repair replace measure test deploy monitor backup restore",
    "married currency language president king flag climate weather food culture religion",
    "encode decode compress lock unlock connect disconnect mount unmount subscribe unsubscribe",
    "prevent treat diagnose win lose before after inside outside hire fire north south east west",
    "title headline subject heading caption slogan logo moon ring pod war battle mother father",
)
# How an answer is to look, not what it is to say.
FORMS: Final = listed(
    "table json csv yaml xml html markdown latex bullet bullets bulleted list numbered sentence",
    "sentences word words paragraph paragraphs line lines step steps short shorter brief briefly",
    "concise long longer detailed detail details simple simpler simply plain language terms",
    "example examples code only explanation explanations comments docstring formatted format",
    "column columns",
    "formal informal friendly polite professional tone beginner layman child five year old slowly",
    "tabelle stichpunkte satz kurz kürzer ausführlich einfach beispiel tableau phrase phrases",
    "simplement court exemple tabla frase frases corto breve ejemplo lista",
)
ARTICLES: Final = listed(
    "a an the der die das den dem des ein eine le la les un une el los las una"
)

TOKEN: Final = re.compile(r"\d+(?:[.,:/]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)*|[^\s\w]")
OPENERS: Final = frozenset(("", ".", "?", "!", ":", "¿", "¡"))
STEM_ENDINGS: Final = (
    ("ations", ""), ("ation", ""), ("ments", ""), ("ment", ""), ("ings", ""), ("ing", ""),
    ("ies", "y"), ("sses", "ss"), ("ied", "y"), ("ors", ""), ("ers", ""), ("or", ""), ("er", ""),
    ("ion", ""), ("ed", ""), ("ly", ""), ("es", ""), ("en", ""), ("e", ""), ("s", ""),
)  # fmt: skip
STEM_CHARS: Final = 4


# --- cues -------------------------------------------------------------------------------------

QUOTED: Final = re.compile(r"[\"“„«][^\"”“»]*[\"”“»]|(?<!\w)'[^']*'(?!\w)")
COMPLAINT: Final = re.compile(
    r"^(?:\W*(?:sorry|hm+|hey|but|um+|wait|ok|well|non?|nein|nope|nah)\b)?\W*(?:"
    r"(?:that|this|it|which|your \w+|the \w+|those|these)(?: \w+)?(?: is|'s| was| are| were"
    r"| can't be| cannot be| seems?| looks?| sounds?)"
    r"(?: \w+)? (?:wrong|incorrect|false|not (?:right|correct|true|what|it|helpful|working|my)"
    r"|outdated"
    r"|nonsense|missing|incomplete|useless|bad|bs|rubbish|off)\b"
    r"|(?:that|this|it)(?: \w+)? (?:isn't|wasn't|is not|was not|can't be|cannot be|doesn't"
    r"|does not|didn't|did not|still)"
    r"(?: \w+)? (?:right|correct|true|what|it|work|help|answer|make sense|helpful|working|run"
    r"|compile|throws?|fails?"
    r"|gives?|shows?|look right|match)\b"
    r"|(?:wrong|incorrect|false|nonsense|rubbish|useless)\b(?=[\s.,:;!]|$)(?! (?:way|side|with"
    r"|number|answers? to))"
    r"|not (?:what|quite|right|correct|true|good|helpful|even close|it\b|working)"
    r"|(?:doesn't|does not|didn't|did not|don't|still) (?:\w+ )?(?:work|help|like (?:these|this"
    r"|that|it|them|any)|compile|run|wrong|the same|get (?:it|this)|understand (?:it|this|your))"
    r"|(?:please )?(?:try|do it|once|one more time|give it another try|regenerate|redo|retry"
    r"|rephrase|again)(?: again| once more| please| that| it| this)*\W*(?:$|[:.,!])"
    r"|you (?:didn't|did not|missed|forgot|only|still|misunderstood|ignored|skipped|keep"
    r"|got (?:that|it|this)|made a mistake|are wrong|gave (?:me )?(?:the )?wrong|left out|haven't)"
    r"|(?:that|this|it)(?: \w+)? (?:doesn't|does not|didn't|did not|won't|isn't|wasn't) \w+"
    r"|(?:that|this|it)(?:'s| is)(?: \w+)? (?:not|no) \w+"
    r"|still (?:not|no|isn't|aren't|wrong|nothing|broken|failing|the same|an? error)\b"
    r"|i (?:still )?(?:don't|do not|can't|cannot) (?:really )?(?:understand|get (?:it|this|that)"
    r"|follow|see (?:it|how))\b|(?:that|this|it|which)(?:'s| is| was)? (?:all )?(?:greek|unclear"
    r"|too hard|confusing)\b"
    r"|(?:the|your|that|this) (?:\w+ )?(?:code|script|quer(?:y|ies)|command|function|regex|formula"
    r"|example|answer|translation|link|json|output|solution|program|snippet|test|build)\b.{0,12}"
    r"\b(?:fails?|failed|crash\w*|throws?|threw|breaks?|broke|errors? out|doesn't|does not|didn't"
    r"|won't|isn't|is not|raises?|gives? (?:me )?(?:an? )?(?:error|exception|wrong|nothing))\b"
    r"|i(?:'m| am| was) (?:talking|asking|referring|thinking|speaking)\b(?: about| of| to)?"
    r"|by \w+ i meant?\b|not the \w+,"
    r"|you're wrong|i (?:said|asked|meant?|told you|don't like|did not ask|didn't ask"
    r"|still (?:don't|do not|get)|already said|wanted|specifically)\b"
    r"|are you (?:really |absolutely )?sure\b|i (?:don't )?think (?:that|this|it)(?: is"
    r"|'s) (?:wrong|incorrect|not)|(?:way )?too (?:long|short|vague|complicated|wordy|generic"
    r"|formal)\b"
    r"|no,? (?:that|i|you|not|from|it|this|the)\b|nope\b|bad answer|(?:please )?(?:check|count"
    r"|calculate|look|read|answer) (?:it |that )?again"
    r"|(?:das|dies|es|die antwort) (?:ist|war) (?:leider )?(?:falsch|nicht (?:richtig|korrekt"
    r"|was))|(?:das )?stimmt (?:so )?nicht|falsch\b|(?:bitte )?(?:noch ?mal|noch einmal|nochmals)\b"
    r"|du hast .{0,30}(?:nicht|vergessen|falsch)|so war das nicht|das funktioniert nicht"
    r"|(?:c'est|cela est) (?:faux|incorrect|pas (?:ça|correct|juste|bon))|ce n'est pas (?:ça"
    r"|correct|juste|bon|exact|ce que)|(?:réessaie|réessayez|recommence|recalcule)|faux\b"
    r"|encore une fois"
    r"|(?:eso |esto )?no (?:es|está) (?:correct|así|bien|lo que|ciert)|incorrecto|(?:está "
    r"|eso está )?mal\b|(?:inténtalo|prueba|hazlo) (?:de nuevo|otra vez)|otra vez|te equivocas"
    r"|eso no\b"
    r")"
)
LATE_COMPLAINT: Final = re.compile(
    r"[.,!;] ?(?:please )?(?:try|do it) again\b|\bnot what i (?:asked|wanted|meant)\b"
    r"|[,;.!] ?(?:but |sorry,? )?i (?:asked|said|wanted|meant?|was asking)\b"
    r"|^it still (?:\w+s|doesn't)\b|\bstill (?:the same|wrong|not working)\b"
)
APPROVAL: Final = re.compile(
    r"^\W*\w{2,}ed!|^\W*(?:oh |ah |ok(?:ay)?,? |wow,? |haha+,? |yes,? |no problem\b"
    r"|lol,? )*(?:thanks"
    r"|thank you|thankyou|thx|ty\b|great|perfect|nice|got it|cool|lovely|awesome|excellent"
    r"|brilliant|wonderful|good (?:job|one|answer)|very good|well done"
    r"|(?:it|that) work(?:s|ed)\b|that'?s (?:right|correct|great|perfect|it|good|helpful)"
    r"|that (?:makes sense|helps|helped)|makes sense|makes sense now|i (?:like|love|prefer|see"
    r"|understand)\b|haha+|no problem|i'll take"
    r"|danke|super|prima|perfekt|toll|passt|merci|parfait|génial|gracias|perfecto|genial"
    r"|estupendo|grazie|obrigad)"
)
SEQUEL: Final = re.compile(
    r"^\W*(?:(?:ok(?:ay)?|alright|good|great|thanks|thank you|so|well)\W+)*(?:and\b|also\b|now\b"
    r"|then\b|next\b(?=[:,]| (?:one|question|step|up)\b)|plus\b|what about|how about|what if"
    r"|what else|same (?:for|with)|same question|another\b(?! (?:word|way|name|term)\b)"
    r"|one more|more\b"
    r"|another one|additionally|besides|und\b|auch\b|jetzt\b|dann\b|et\b|aussi\b|maintenant\b"
    r"|ensuite\b|y\b|ahora\b|también\b|e\b(?! ?-?mail)|adesso\b|agora\b)"
    r"|\b(?:another (?:one|joke)|one more|\d+ more|second one)\b"
)
REFERS: Final = listed(
    "it its they them their theirs he him his she her hers those these this that there instead",
    "afterward afterwards both second third",
)
COMPARES: Final = listed("than versus vs compare compared comparison differs between or rather")
COMMANDS: Final = listed(
    "continue next more proceed yes no ok okay weiter mehr ja nein suite continuer oui non sigue",
    "continua mas si avanti ancora 1 2 3 a b c",
) | {"go on", "keep going", "go ahead", "carry on"}


# Written numbers are the numbers; "one" is more often a pronoun.
_WRITTEN: Final = (
    "two three four five six seven eight nine ten eleven twelve",
    "zwei drei vier funf sechs sieben acht neun zehn elf zwolf",
    "deux trois quatre cinq six sept huit neuf dix onze douze",
    "dos tres cuatro cinco seis siete ocho nueve diez once doce",
)
NUMBERS: Final = {word: str(n) for line in _WRITTEN for n, word in enumerate(line.split(), 2)}

# --- questions --------------------------------------------------------------------------------

QUESTION_WORDS: Final = {
    word: kind
    for kind, words in (
        (
            Asks.WHAT,
            listed(
                "what whats which welche welcher welches quel quelle quels quelles que cual cuales"
            ),
        ),
        (Asks.HOW, listed("how hows wie comment como")),
        (Asks.WHY, listed("why warum wieso weshalb pourquoi")),
        (Asks.WHEN, listed("when wann quand cuando")),
        (Asks.WHERE, listed("where wo woher wohin ou donde")),
        (Asks.WHO, listed("who whos whom whose wer wem wen qui quien")),
        (Asks.AMOUNT, listed("combien cuanto cuanta cuantos cuantas wieviel")),
    )
    for word in words
}
AMOUNTS: Final = listed(
    "much many long far big old tall high fast often deep heavy viel viele lange weit gross hoch"
    " alt"
)
# Questions to be answered by yes or no; "was" opens one in English and another in German.
WHETHER: Final = listed(
    "is are was were am do does did can could should will would may has have est sont peut es puede"
)
WHETHER_IN_GERMAN: Final = listed("ist sind kann kannst darf darfst soll gibt hat muss")
YOU: Final = listed("you du sie tu vous usted")
ASKED_WITHIN: Final = 12  # words
